//go:build integration

package fleet_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	nomad "github.com/hashicorp/nomad/api"

	"github.com/wavry/fleet/test/browser"
)

// What operators do to a fleet in use, and what a person who works on it sees: updates, drains, stops, and at last a node that is lost.
func TestFleetOperations(t *testing.T) {
	front := listen(t)
	r := startWith(t, []string{"public_url=" + front.url()}, "sway")
	front.serve(r)
	gnome := r.node("node-gnome").ID
	desktops := "gnome,sway" // a second node with sway; the scheduler sees it after some seconds
	_, err := r.Nomad.Nodes().Meta().Apply(&nomad.NodeMetaApplyRequest{NodeID: gnome, Meta: map[string]*string{"wavry_desktops": &desktops}}, nil)
	r.must(err)
	p := front.open(r, "alice", "sway")
	p.Click(320, 240)
	p.Type("echo hello\r")
	p.Until("input measured", "wavry.snapshot().inputToPresent")

	t.Run("secrets", func(t *testing.T) { r.secrets(t) })
	t.Run("policies", func(t *testing.T) { r.policies(t) })
	t.Run("metrics", func(t *testing.T) { r.targets(t) })
	t.Run("no such device", func(t *testing.T) { r.noDevice() })
	t.Run("gateways updated", func(t *testing.T) { r.updateGateways(t, p, front.url()) })
	t.Run("relay drained and activated", func(t *testing.T) { r.drainRelay(t, p) })
	t.Run("relay's node drained", func(t *testing.T) { r.drainRelayNode(t, p) })
	r.spareHost()
	t.Run("host's job stopped", func(t *testing.T) { r.stopHostJob(t, p) })
	t.Run("node lost", func(t *testing.T) { r.loseNode(t, p) })
	t.Run("indicators", func(t *testing.T) { r.indicators(t) })
}

// prometheus asks Prometheus' API.
func (r *rigged) prometheus(path string, query url.Values, data any) {
	r.t.Helper()
	base, err := r.Prometheus()
	r.must(err)
	answer, err := http.Get(base + "/api/v1/" + path + "?" + query.Encode())
	r.must(err)
	defer answer.Body.Close()
	body := struct {
		Status, Error string
		Data          any
	}{Data: data}
	r.must(json.NewDecoder(answer.Body).Decode(&body))
	if body.Status != "success" {
		r.t.Fatalf("Prometheus, %s %v: %s", path, query, body.Error)
	}
}

// series are the labels that an expression has values for.
func (r *rigged) series(expression string) (list []map[string]string) {
	r.t.Helper()
	var found struct {
		Result []struct{ Metric map[string]string }
	}
	r.prometheus("query", url.Values{"query": {expression}}, &found)
	for _, s := range found.Result {
		list = append(list, s.Metric)
	}
	return list
}

// targets are all processes of the fleet, found in Consul with the job's own token and scraped.
func (r *rigged) targets(t *testing.T) {
	r.wait("Prometheus scrapes every process", func() bool {
		up := map[string]int{}
		for _, s := range r.series("up == 1") {
			up[s["role"]]++
		}
		return up["wavry-master"] == 3 && up["wavry-gateway"] == 3 && up["wavry-relay"] == 2 && up["wavry-host"] == 1
	})
	if down := r.series("up == 0"); len(down) > 0 {
		t.Errorf("not scraped: %v", down)
	}
	var rules struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError string }
		}
	}
	r.prometheus("rules", nil, &rules)
	n := 0
	for _, g := range rules.Groups {
		for _, rule := range g.Rules {
			if n++; rule.Health == "err" {
				t.Errorf("rule %s: %s", rule.Name, rule.LastError)
			}
		}
	}
	if n == 0 {
		t.Error("slo.yml is not loaded")
	}
	test := exec.Command("promtool", "test", "rules", "slo_test.yml")
	test.Dir = filepath.Join("..", "..", "jobs")
	if out, err := test.CombinedOutput(); err != nil {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}

// indicators are the SLIs that DESIGN names, measured on this very fleet.
func (r *rigged) indicators(t *testing.T) {
	for _, sli := range []string{"session_setup_success_ratio", "handshake_failure_ratio", "direct_ratio", "input_to_present_ms", "session_drop_ratio"} {
		r.wait(sli+" is measured", func() bool { return len(r.series(sli+`{tier="dev"}`)) > 0 })
	}
	r.wait("the lost host counts as a drop", func() bool { return len(r.series("session_drop_ratio > 0")) > 0 })
	r.wait("the lost node is missed", func() bool {
		return len(r.series(`ALERTS{alertname="ProcessDown", node!=""}`)) > 0 || len(r.series(`up == 0`)) > 0
	})
}

// noDevice runs the job for NVIDIA's GPUs, which waits: no node has one.
func (r *rigged) noDevice() {
	r.must(r.Run(r.t.Context(), "host-nvenc"))
	r.wait("the job waits for a device", func() bool {
		evals, _, err := r.Nomad.Jobs().Evaluations("wavry-host-nvenc", nil)
		r.must(err)
		for _, e := range evals {
			for _, m := range e.FailedTGAllocs {
				if m.ConstraintFiltered["missing devices"] > 0 {
					return true
				}
			}
		}
		return false
	})
	_, _, err := r.Nomad.Jobs().Deregister("wavry-host-nvenc", true, nil)
	r.must(err)
}

// updateGateways changes the gateways' job: one canary beside the old ones, promoted when it is healthy, then the others. The stream
// does not care; the page finds another gateway.
func (r *rigged) updateGateways(t *testing.T, p *browser.Page, public string) {
	const job = "wavry-gateway"
	r.wait("the first deployment is over", func() bool {
		d, _, err := r.Nomad.Jobs().LatestDeployment(job, nil)
		return err == nil && d.Status == "successful"
	})
	two := 2 // a canary needs a node without a gateway
	_, _, err := r.Nomad.Jobs().Scale(job, "gateway", &two, "room for a canary", false, nil, nil)
	r.must(err)
	r.must(r.Passing(t.Context(), job, 2))
	before, _, err := r.Nomad.Jobs().Info(job, nil)
	r.must(err)
	untouched(t, p, func() {
		r.must(r.Run(t.Context(), "gateway", "count=2", "http_port=0", "tls=false", "force_relay=true", "public_url="+public, "open_pools=sway"))
		canary := ""
		r.wait("a canary runs beside the old ones", func() bool {
			d := r.deployment(job, before)
			if d == nil || len(d.TaskGroups["gateway"].PlacedCanaries) == 0 {
				return false
			}
			canary = d.TaskGroups["gateway"].PlacedCanaries[0]
			return len(r.instancesOf(job, "running")) == 3
		})
		r.wait("it is promoted and the others follow", func() bool {
			d := r.deployment(job, before)
			return d.Status == "successful" && d.TaskGroups["gateway"].Promoted && d.TaskGroups["gateway"].HealthyAllocs == 2
		})
		for _, a := range r.instancesOf(job, "running") {
			if a.JobVersion <= *before.Version {
				t.Errorf("%s is still of version %d", a.Name, a.JobVersion)
			}
			if a.ID == canary {
				canary = ""
			}
		}
		if canary != "" {
			t.Error("the canary did not stay")
		}
	})
	p.Until("signaling is back", "wavry.log().findLast(l => /signaling/.test(l)).endsWith('open')")
}

// deployment of a job after a version, nil while there is none.
func (r *rigged) deployment(job string, after *nomad.Job) *nomad.Deployment {
	d, _, err := r.Nomad.Jobs().LatestDeployment(job, nil)
	r.must(err)
	if d == nil || d.JobVersion <= *after.Version {
		return nil
	}
	return d
}

func (r *rigged) instancesOf(job, status string) (list []*nomad.AllocationListStub) {
	all, _, err := r.Nomad.Jobs().Allocations(job, false, nil)
	r.must(err)
	for _, a := range all {
		if a.ClientStatus == status {
			list = append(list, a)
		}
	}
	return list
}

func (r *rigged) operator(args ...string) string {
	r.t.Helper()
	out, err := r.Operator(r.t.Context(), args...)
	r.must(err)
	return out
}

// state of a machine by "wavry relay show" or "wavry host show": STATE ... by ACTOR: REASON.
func (r *rigged) state(kind, id string) string {
	for line := range strings.Lines(r.operator(kind, "show", id)) {
		if name, value, _ := strings.Cut(line, " "); name == "State" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// handOver does something that moves the session to another relay, without a break.
func handOver(t *testing.T, p *browser.Page, do func()) browser.Snapshot {
	t.Helper()
	before := p.Snapshot()
	do()
	p.UntilGo("the session moved", func() bool { s := p.Snapshot(); return s.Moves > before.Moves && s.Relay != before.Relay })
	after := p.Snapshot()
	if after.Session != before.Session || after.Reconnects != before.Reconnects || after.State != "live" {
		t.Errorf("the hand-over broke the session: %+v, before %+v", after, before)
	}
	return after
}

// move has an operator move the session until the other relay takes it: one that was activated a moment ago is not healthy yet.
func (r *rigged) move(p *browser.Page) {
	from := p.Snapshot()
	r.wait("the session leaves "+from.Relay, func() bool {
		moves := p.Snapshot().Moves
		r.operator("session", "move", from.Session)
		p.UntilGo("the session moves", func() bool { return p.Snapshot().Moves > moves })
		return p.Snapshot().Relay != from.Relay
	})
}

// drainRelay drains by hand; activated, the relay proves itself again.
func (r *rigged) drainRelay(t *testing.T, p *browser.Page) {
	relay := p.Snapshot().Relay
	handOver(t, p, func() { r.operator("relay", "drain", "-reason", "new kernel", relay) })
	r.wait("the relay is drained", func() bool { return strings.HasPrefix(r.state("relay", relay), "drained") })
	if out := r.operator("relay", "list"); !strings.Contains(out, "empty") {
		t.Errorf("the list does not say why:\n%s", out)
	}
	r.operator("relay", "activate", "-reason", "kernel is new", relay)
	if s := r.state("relay", relay); !strings.HasPrefix(s, "probation") {
		t.Errorf("after activate the relay is %s", s)
	}
	for range 6 { // there and back: every other circuit is through the relay on probation, and three must work
		handOver(t, p, func() { r.move(p) })
	}
	r.wait("circuits that worked promote it", func() bool {
		return strings.HasPrefix(r.state("relay", relay), "active") && strings.Contains(r.state("relay", relay), "its circuits work")
	})
}

// drainRelayNode drains the Nomad node of the session's relay, system jobs included.
func (r *rigged) drainRelayNode(t *testing.T, p *browser.Page) {
	const node, relay = "node-gnome", "wavry-relay@node-gnome" // the host is on the other node with a relay
	if p.Snapshot().Relay != relay {
		handOver(t, p, func() { r.move(p) })
	}
	id := r.node(node).ID
	alloc := r.running("wavry-relay", node).ID
	handOver(t, p, func() {
		_, err := r.Nomad.Nodes().UpdateDrain(id, &nomad.DrainSpec{Deadline: time.Minute}, false, nil)
		r.must(err)
	})
	var a *nomad.Allocation
	r.wait("the node is drained and the relay has ended", func() bool {
		var err error
		a, _, err = r.Nomad.Allocations().Info(alloc, nil)
		return err == nil && r.node(node).DrainStrategy == nil && a.ClientStatus != "running"
	})
	if task := a.TaskStates["relay"]; a.ClientStatus != "complete" || task == nil || task.Failed {
		t.Errorf("the relay did not end in order: %s, %+v", a.ClientStatus, task)
	}
	_, err := r.Nomad.Nodes().ToggleEligibility(id, true, nil)
	r.must(err)
	// Nomad 1.11 forgets system jobs whose ended allocation it still remembers on the node.
	_, _, err = r.Nomad.Jobs().ForceEvaluate("wavry-relay", nil)
	r.must(err)
	r.wait("the relay is back, on probation", func() bool { return strings.HasPrefix(r.state("relay", relay), "probation") })
	r.must(r.Passing(t.Context(), "wavry-relay", 2))
	r.must(r.Passing(t.Context(), "wavry-master", 3))
}

// spareHost runs a second host of the pool on another node, by a job of its own.
func (r *rigged) spareHost() {
	r.t.Helper()
	relays, _, err := r.Nomad.Variables().Read("nomad/jobs/wavry-relay", nil)
	r.must(err)
	v := nomad.NewVariable("nomad/jobs/wavry-host-spare")
	v.Items = nomad.VariableItems{"ca": relays.Items["ca"]}
	_, _, err = r.Nomad.Variables().Create(v, nil)
	r.must(err)
	sway := r.node("node-sway").ID
	_, err = r.Nomad.Nodes().ToggleEligibility(sway, false, nil)
	r.must(err)
	r.must(r.RunHost(r.t.Context(), "sway", "name=spare", "pool=sway"))
	r.must(r.Passing(r.t.Context(), "wavry-host", 2))
	_, err = r.Nomad.Nodes().ToggleEligibility(sway, true, nil)
	r.must(err)
}

const (
	mainHost  = "wavry-host-sway@node-sway"
	spareHost = "wavry-host-spare@node-gnome"
)

func text(p *browser.Page) string { return browser.Eval[string](p, "document.body.innerText") }

// stopHostJob stops the job of the person's host: told at once, ended after the limit of five seconds, offered another host.
func (r *rigged) stopHostJob(t *testing.T, p *browser.Page) {
	before := p.Snapshot()
	began := time.Now()
	_, _, err := r.Nomad.Jobs().Deregister("wavry-host-sway", false, nil)
	r.must(err)
	p.UntilGo("the person is told", func() bool {
		return strings.Contains("\n"+text(p), "\nThis host goes down for maintenance. Save your work: the session ends within 5 seconds.")
	})
	p.Shot("told")
	p.Type("echo save\r")
	p.UntilGo("the picture goes on", func() bool { return p.Snapshot().Presented > before.Presented+2 })
	p.UntilGo("the session ends", func() bool { return strings.Contains(text(p), "This host is going down for maintenance") })
	p.Shot("ended")
	if took := time.Since(began); took < 5*time.Second {
		t.Errorf("the session ended after %v", took)
	}
	r.freed(before.Session, mainHost, "host_drained")
	r.again(p, spareHost)
	r.wait("the stopped host is out", func() bool { return strings.HasPrefix(r.state("host", mainHost), "drained") })
}

// freed waits until a session has ended for a reason and its host is empty.
func (r *rigged) freed(session, host, reason string) {
	r.t.Helper()
	r.wait("the slot is free", func() bool { return !strings.Contains(r.operator("session", "list", "-host", host), session) })
	if out := r.operator("session", "show", session); !strings.Contains(out, reason) {
		r.t.Errorf("not ended by %s:\n%s", reason, out)
	}
}

// again takes the offer of the page and gets a desktop from another host.
func (r *rigged) again(p *browser.Page, host string) {
	r.t.Helper()
	p.Until("another host is offered", "document.activeElement.textContent === 'Connect again'")
	browser.Eval[bool](p, "(document.activeElement.click(), true)")
	p.Live()
	if out := r.operator("session", "list", "-host", host); !strings.Contains(out, p.Snapshot().Session) {
		r.t.Errorf("not on %s:\n%s", host, out)
	}
}

// loseNode loses the node of the person's host, which also had a master, a gateway and a relay.
func (r *rigged) loseNode(t *testing.T, p *browser.Page) {
	_, err := r.Nomad.Nodes().ToggleEligibility(r.node("node-gnome").ID, false, nil)
	r.must(err)
	r.must(r.RunHost(t.Context(), "sway"))
	r.must(r.Passing(t.Context(), "wavry-host", 2))
	id := p.Snapshot().Session
	began := time.Now()
	r.Lose("node-gnome")
	p.UntilGo("the person is told", func() bool { return strings.Contains(text(p), "The host was lost") })
	told := time.Since(began)
	p.Shot("lost")
	r.freed(id, spareHost, "host_lost")
	r.again(p, mainHost)
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("another host after %v, want 15 s", took)
	} else {
		t.Logf("told after %.1f s, on another host after %.1f s", told.Seconds(), took.Seconds())
	}
	r.wait("Nomad misses the node", func() bool { return r.node("node-gnome").Status == "disconnected" }) // down after lost_after
}
