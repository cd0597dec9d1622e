//go:build integration

package fleet_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	nomad "github.com/hashicorp/nomad/api"

	"github.com/wavry/fleet/hostruntime/nomadmeta"
	"github.com/wavry/fleet/test/browser"
	"github.com/wavry/fleet/test/fleet"
	"github.com/wavry/fleet/test/rig"
)

// rigged is a fleet in a test.
type rigged struct {
	*fleet.Fleet
	t *testing.T
}

func start(t *testing.T, desktops ...string) *rigged {
	t.Helper()
	return startWith(t, nil, desktops...)
}

// startWith also sets variables of the gateways' job.
func startWith(t *testing.T, gateway []string, desktops ...string) *rigged {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	f, err := fleet.Start(t.Context(), fleet.Config{
		Root: root, Engines: filepath.Dir(rig.Engine(t, "nomad")), Desktops: desktops, Size: "640x480", Gateway: append(gateway, "force_relay=true"), Log: t.Output(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			f.ShowLogs()
		}
		if err := f.Close(); err != nil {
			t.Error("end of the fleet:", err)
		}
	})
	return &rigged{f, t}
}

func (r *rigged) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rigged) wait(what string, cond func() bool) {
	r.t.Helper()
	r.must(r.Wait(r.t.Context(), what, cond))
}

// running is the running allocation of a job on a node, nil without one.
func (r *rigged) running(job, node string) *nomad.AllocationListStub {
	list, _, err := r.Nomad.Jobs().Allocations(job, false, nil)
	r.must(err)
	for _, a := range list {
		if a.ClientStatus == "running" && a.NodeName == node {
			return a
		}
	}
	return nil
}

// open signs somebody in at the gateway of node-gnome and waits for the desktop.
func (r *rigged) open(name, pool string) *browser.Page {
	r.t.Helper()
	link, err := r.Invite(r.t.Context(), "node-gnome", name, "admin")
	r.must(err)
	p := browser.New(r.t, 640, 480)
	p.OpenInvite(link + "&to=/desktop/" + pool)
	p.Live()
	return p
}

// One fleet of real Consul and Nomad serves a desktop from the node that has it, and keeps it through faults.
func TestFleet(t *testing.T) {
	r := start(t, "sway")
	r.jobs()
	p := r.open("alice", "sway")
	t.Run("desktop", func(t *testing.T) {
		p.Click(320, 240)
		p.Type("echo hello from the fleet\r")
		p.Until("input measured", "wavry.snapshot().inputToPresent")
		p.Shot("sway")
		if s := p.Snapshot(); s.Path != "relay" || s.Width != 640 || s.Height != 480 {
			t.Errorf("%+v", s)
		}
		pixels := p.Pixels(0, 0, 640, 480)
		seen := map[[3]uint8]bool{}
		for i := 0; i+3 < len(pixels); i += 4 {
			seen[[3]uint8(pixels[i:i+3])] = true
		}
		if len(seen) < 16 {
			t.Errorf("a desktop with a terminal has more than %d colours", len(seen))
		}
	})
	t.Run("ordinary users", func(t *testing.T) { r.ordinaryUsers(t) })
	t.Run("node metadata", func(t *testing.T) {
		r.wait("the host's findings are metadata of its node", func() bool {
			n := r.node("node-sway")
			return n.Meta["wavry.usable"] == "true" && n.Meta["wavry.capture"] == "capture-wayland/wlr-screencopy" && n.Meta["wavry.encoder"] != "" && n.Meta["wavry.slots"] == "1"
		})
	})
	t.Run("host list says why", func(t *testing.T) {
		no, why := "false", "encode-vaapi: no render node"
		_, err := r.Nomad.Nodes().Meta().Apply(&nomad.NodeMetaApplyRequest{
			NodeID: r.node("node-kde").ID, Meta: map[string]*string{nomadmeta.Usable: &no, nomadmeta.Reason: &why},
		}, nil)
		r.must(err)
		r.wait("the reason is listed", func() bool {
			out, err := r.Operator(t.Context(), "host", "list", "-why")
			r.must(err)
			return strings.Contains(out, "wavry-host-sway@node-sway") && strings.Contains(out, "node-kde takes no sessions: "+why)
		})
	})
	t.Run("wrong metadata", func(t *testing.T) { r.wrongMetadata() })
	t.Run("backup", func(t *testing.T) {
		r.must(r.Run(t.Context(), "backup"))
		_, _, err := r.Nomad.Jobs().PeriodicForce("wavry-backup", nil)
		r.must(err)
		r.wait("a backup is complete", func() bool {
			list, _, err := r.Nomad.Allocations().List(nil)
			r.must(err)
			for _, a := range list {
				if strings.HasPrefix(a.JobID, "wavry-backup/") && a.ClientStatus == "failed" {
					t.Fatal("the backup failed")
				}
				if strings.HasPrefix(a.JobID, "wavry-backup/") && a.ClientStatus == "complete" {
					return true
				}
			}
			return false
		})
		for _, kind := range []string{"master", "accounts"} {
			files, err := os.ReadDir(filepath.Join(r.Backups(), kind))
			r.must(err)
			if len(files) == 0 {
				t.Errorf("no backup of %s", kind)
			}
		}
	})
	t.Run("nomad client killed", func(t *testing.T) {
		before := r.running("wavry-host-sway", "node-sway")
		untouched(t, p, func() { r.Kill("node-sway") })
		r.must(r.Restart("node-sway"))
		untouched(t, p, func() {
			r.wait("the agent has its tasks back", func() bool {
				a := r.running("wavry-host-sway", "node-sway")
				return r.node("node-sway").Status == "ready" && a != nil && a.ID == before.ID && a.TaskStates["host"].State == "running" && a.TaskStates["host"].Restarts == 0
			})
		})
	})
	t.Run("nomad server restarted", func(t *testing.T) {
		untouched(t, p, func() { r.Kill("nomad"); r.must(r.Restart("nomad")) })
		r.wait("nomad leads", func() bool { l, err := r.Nomad.Status().Leader(); return err == nil && l != "" })
	})
	t.Run("consul server lost", func(t *testing.T) {
		untouched(t, p, func() { r.Kill("consul3") })
		r.must(r.Restart("consul3"))
	})
	t.Run("gateway killed", func(t *testing.T) {
		a := r.running("wavry-gateway", "node-gnome")
		untouched(t, p, func() {
			full, _, err := r.Nomad.Allocations().Info(a.ID, nil)
			r.must(err)
			r.must(r.Nomad.Allocations().Signal(full, nil, "gateway", "SIGKILL"))
		})
		untouched(t, p, func() {
			p.Until("signaling is back", "wavry.log().findLast(l => /signal/i.test(l)).match(/open|back|resum/i)")
		})
	})
	t.Run("relay stopped", func(t *testing.T) {
		before := p.Snapshot()
		a := r.running("wavry-relay", strings.TrimPrefix(before.Relay, "wavry-relay@"))
		full, _, err := r.Nomad.Allocations().Info(a.ID, nil)
		r.must(err)
		_, err = r.Nomad.Allocations().Stop(full, nil)
		r.must(err)
		p.UntilGo("the session moved", func() bool { s := p.Snapshot(); return s.Moves > before.Moves && s.Relay != before.Relay })
		if s := p.Snapshot(); s.Session != before.Session || s.Reconnects != before.Reconnects {
			t.Errorf("the hand-over broke the session: %+v, before %+v", s, before)
		}
	})
}

// GNOME and KDE come from the nodes that have them. A fleet of its own for each: two cores draw one at a time.
func TestFleetDesktops(t *testing.T) {
	for _, kind := range []string{"gnome", "kde"} {
		t.Run(kind, func(t *testing.T) {
			r := start(t, kind)
			p := r.open("alice", kind)
			p.Shot(kind)
			if r.running("wavry-host-"+kind, "node-"+kind) == nil {
				t.Errorf("%s does not run on the node that has it", kind)
			}
			if s := p.Snapshot(); s.Width != 640 || s.Height != 480 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// node by name.
func (r *rigged) node(name string) *nomad.Node {
	list, _, err := r.Nomad.Nodes().List(nil)
	if err != nil {
		return &nomad.Node{} // the server may be starting
	}
	for _, stub := range list {
		if stub.Name != name {
			continue
		}
		if n, _, err := r.Nomad.Nodes().Info(stub.ID, nil); err == nil {
			return n
		}
	}
	return &nomad.Node{}
}

// jobs validates and plans every job file, with each driver it knows, and sees a bad variable refused before anything runs.
func (r *rigged) jobs() {
	r.t.Run("jobs", func(t *testing.T) {
		ctx := t.Context()
		for _, file := range []string{"master", "gateway", "relay", "host-wlroots", "host-gnome", "host-kde", "host-nvenc", "host-vaapi", "postgres", "prometheus", "backup"} {
			for _, driver := range []string{"raw_exec", "docker"} {
				if _, err := r.Validate(ctx, file, "driver="+driver); err != nil {
					t.Error(err)
				}
				if _, err := r.Plan(ctx, file, "driver="+driver); err != nil {
					t.Error(err)
				}
			}
		}
		for _, bad := range [][3]string{
			{"master", "servers=2", "Raft needs 1, 3 or 5 servers"}, {"relay", "media_ports=0", "1 to 1024 media ports"},
			{"host-nvenc", "desktop=xfce", "must be sway, gnome or kde"}, {"gateway", "no_such=1", "no_such"},
		} {
			out, err := r.Validate(ctx, bad[0], bad[1])
			if err == nil || !strings.Contains(out, bad[2]) {
				t.Errorf("%s with %s, want %q: %v", bad[0], bad[1], bad[2], err)
			}
		}
	})
}

// wrongMetadata runs a job that no node fits: it waits, and operators see for what.
func (r *rigged) wrongMetadata() {
	r.must(r.Run(context.Background(), "host-vaapi"))
	r.wait("the job waits with a reason", func() bool {
		out, err := r.Operator(r.t.Context(), "host", "list", "-why")
		r.must(err)
		return strings.Contains(out, "Job wavry-host-vaapi waits for a node: ") && strings.Contains(out, "${meta.wavry_gpu}")
	})
	_, _, err := r.Nomad.Jobs().Deregister("wavry-host-vaapi", true, nil)
	r.must(err)
}

// untouched does something and checks that pictures kept coming over the same connection.
func untouched(t *testing.T, p *browser.Page, do func()) {
	t.Helper()
	before := p.Snapshot()
	do()
	presented := p.Snapshot().Presented
	p.UntilGo("more pictures", func() bool { return p.Snapshot().Presented > presented+2 }) // an idle desktop sends one a second
	if after := p.Snapshot(); after.Reconnects != before.Reconnects || after.Moves != before.Moves || after.State != "live" {
		t.Errorf("the stream was touched: %+v, before %+v", after, before)
	}
}
