//go:build integration

package fleet_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"
	nomad "github.com/hashicorp/nomad/api"

	"github.com/wavry/fleet/hostruntime/nomadmeta"
	"github.com/wavry/fleet/master/identity"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/masterclient"
	"github.com/wavry/fleet/test/browser"
)

// preferred is a fleet with one sway host on each of two nodes, which have folders of plugins of their own.
type preferred struct {
	*rigged
	page *browser.Page
}

const (
	faulty = "node-sway"  // its plugins are not right at first
	whole  = "node-gnome" // serves meanwhile
)

func hostOn(node string) string { return "wavry-host-sway@" + node }

// bin is a node's folder of plugins.
func (r *preferred) bin(node string) string {
	return filepath.Join(filepath.Dir(r.Backups()), node, "bin")
}

func (r *preferred) installAll(node string) {
	r.t.Helper()
	r.must(os.Mkdir(r.bin(node), 0o711))
	r.must(os.Chmod(r.bin(node), 0o711))
	files, err := filepath.Glob(filepath.Join(filepath.Dir(r.Backups()), "bin", "wavry*"))
	r.must(err)
	for _, f := range files {
		r.install(node, filepath.Base(f))
	}
}

func (r *preferred) install(node, file string) {
	r.t.Helper()
	r.must(os.Link(filepath.Join(filepath.Dir(r.Backups()), "bin", file), filepath.Join(r.bin(node), file)))
}

func (r *preferred) remove(node, pattern string) {
	r.t.Helper()
	files, err := filepath.Glob(filepath.Join(r.bin(node), pattern))
	r.must(err)
	for _, f := range files {
		r.must(os.Remove(f))
	}
}

// apply is `nomad node meta apply -node-id NODE KEY=VALUE`; an empty value unsets the key.
func (r *preferred) apply(node, key, value string) {
	r.t.Helper()
	change := map[string]*string{key: &value}
	if value == "" {
		change[key] = nil
	}
	_, err := r.Nomad.Nodes().Meta().Apply(&nomad.NodeMetaApplyRequest{NodeID: r.node(node).ID, Meta: change}, nil)
	r.must(err)
}

func (r *preferred) operator(args ...string) string {
	r.t.Helper()
	out, err := r.Operator(r.t.Context(), args...)
	r.must(err)
	return out
}

// service is what Consul says of a node's host; nil: nothing.
func (r *preferred) service(node string) *consul.ServiceEntry {
	entries, _, err := r.Consul.Health().Service("wavry-host", "", false, nil)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if e.Service.Meta["id"] == hostOn(node) {
			return e
		}
	}
	return nil
}

func (r *preferred) passing(node string) bool {
	s := r.service(node)
	return s != nil && s.Checks.AggregatedStatus() == consul.HealthPassing
}

// explains waits until operators read a reason for a node that takes nobody: from the masters and from Nomad.
func (r *preferred) explains(node, reason string) {
	r.t.Helper()
	r.wait("wavry host list says: "+reason, func() bool {
		listed, told := false, false
		for line := range strings.Lines(r.operator("host", "list", "-why")) {
			listed = listed || strings.Contains(line, hostOn(node)) && strings.Contains(line, "critical") && strings.Contains(line, reason)
			told = told || strings.HasPrefix(line, "Node "+node+" takes no sessions: ") && strings.Contains(line, reason)
		}
		return listed && told
	})
}

// prefers waits until everybody knows the first choice of encoder on a node, whose check may not fail meanwhile.
func (r *preferred) prefers(node, encoder string) {
	r.t.Helper()
	began, consulAt, masterAt := time.Now(), time.Duration(0), time.Duration(0)
	r.wait(node+" encodes by "+encoder, func() bool {
		if !r.passing(node) {
			r.t.Fatalf("the check of %s failed while its order changed", node)
		}
		if consulAt == 0 && r.service(node).Service.Meta["encoder"] == encoder {
			consulAt = time.Since(began)
		}
		if masterAt == 0 && strings.Contains(r.operator("host", "show", hostOn(node)), encoder) {
			masterAt = time.Since(began)
		}
		return consulAt > 0 && masterAt > 0 && r.node(node).Meta[nomadmeta.Encoder] == encoder
	})
	r.t.Logf("%s known after: Consul %.1f s, masters %.1f s, Nomad's scheduler %.1f s", encoder, consulAt.Seconds(), masterAt.Seconds(), time.Since(began).Seconds())
}

// enter opens the pool's desktop and checks which node serves it.
func (r *preferred) enter(name, node string) {
	r.t.Helper()
	r.page = r.open(name, "sway")
	if out := r.operator("session", "show", r.page.Snapshot().Session); !strings.Contains(out, hostOn(node)) {
		r.t.Fatalf("not served by %s:\n%s", node, out)
	}
}

// leave ends the session at once.
func (r *preferred) leave() {
	r.t.Helper()
	r.operator("session", "end", r.page.Snapshot().Session)
	r.wait("the slot is free", func() bool { return !strings.Contains(r.operator("session", "list"), "wavry-host-sway") })
}

// encoder is what the session has.
func (r *preferred) encoder() string {
	r.t.Helper()
	r.page.Until("the host told its encoder", "wavry.snapshot().host?.encoder")
	return browser.Eval[string](r.page, "wavry.snapshot().host.encoder")
}

// Operators change the order of plugins of a node, and plugins are missing, wrong, lost and put back, without a restart of anything.
func TestFleetPreference(t *testing.T) {
	r := &preferred{rigged: start(t)}
	for _, node := range []string{faulty, whole} {
		r.installAll(node)
		r.apply(node, "wavry_bin", r.bin(node))
	}
	r.apply(whole, "wavry_desktops", "sway")
	r.remove(faulty, "wavry-encode-*")
	r.must(r.RunHost(t.Context(), "sway", "count=2", "bin_dir=${meta.wavry_bin}"))
	t.Run("plugins missing on one node", func(t *testing.T) {
		r.must(r.Passing(t.Context(), "wavry-host", 1))
		r.explains(faulty, "no wavry-encode-* in "+r.bin(faulty)+"; install the plugins")
		r.enter("alice", whole)
	})
	t.Run("plugin of another version", func(t *testing.T) {
		path := filepath.Join(r.bin(faulty), "wavry-encode-software")
		r.must(os.WriteFile(path, []byte("#!/bin/sh\necho '1|99|unix|/nowhere|grpc|'\nsleep 60\n"), 0o755))
		r.explains(faulty, path+": it speaks protocol version 99, this host runtime")
	})
	first, second := r.encoder(), "encode-software/openh264"
	if first == second {
		second = "encode-software/x264"
	}
	t.Run("order changes beside a session", func(t *testing.T) {
		untouched(t, r.page, func() {
			r.apply(whole, nomadmeta.WantEncode, second)
			r.prefers(whole, second)
		})
		if now := r.encoder(); now != first {
			t.Errorf("the running session went from %s to %s", first, now)
		}
	})
	t.Run("job placed by what works", func(t *testing.T) { r.placed(second, whole) })
	t.Run("order refused", func(t *testing.T) {
		r.apply(whole, nomadmeta.WantEncode, "encode-sofware")
		r.wait("operators read why", func() bool {
			why := `encode = "encode-sofware": there is no wavry-encode-sofware in ` + r.bin(whole)
			show, list := r.operator("host", "show", hostOn(whole)), r.operator("host", "list", "-why")
			return strings.Contains(show, why) && strings.Contains(show, second) && strings.Contains(list, "Node "+whole+" keeps its last good order of plugins: "+why)
		})
		r.leave()
		r.enter("bob", whole)
		if now := r.encoder(); now != second {
			t.Errorf("a new session has %s, want %s", now, second)
		}
	})
	t.Run("nothing works by the order", func(t *testing.T) {
		untouched(t, r.page, func() {
			r.apply(whole, nomadmeta.WantEncode, "encode-vaapi")
			r.explains(whole, filepath.Join(r.bin(whole), "wavry-encode-vaapi")+": ")
			r.wait("Consul knows", func() bool { return !r.passing(whole) && r.service(whole).Service.Meta["unusable"] != "" })
		})
		untouched(t, r.page, func() {
			r.apply(whole, nomadmeta.WantEncode, "")
			r.wait("Consul knows", func() bool { return r.passing(whole) })
			r.prefers(whole, first)
		})
	})
	t.Run("plugin put right", func(t *testing.T) {
		before := r.running("wavry-host-sway", faulty)
		r.remove(faulty, "wavry-encode-*")
		r.install(faulty, "wavry-encode-software")
		r.must(r.Passing(t.Context(), "wavry-host", 2))
		if a := r.running("wavry-host-sway", faulty); a == nil || a.ID != before.ID || a.TaskStates["host"].Restarts != 0 {
			t.Error("the host was restarted")
		}
	})
	t.Run("plugin lost between sessions", func(t *testing.T) {
		r.leave()
		r.remove(whole, "wavry-encode-software")
		r.explains(whole, filepath.Join(r.bin(whole), "wavry-encode-software")+": the file is gone; put it back")
		r.enter("carol", faulty)
		r.install(whole, "wavry-encode-software")
		r.must(r.Passing(t.Context(), "wavry-host", 2))
	})
	t.Run("one host cannot take another's name", func(t *testing.T) { r.stranger() })
}

// placed runs a job that wants what the host found on its node.
func (r *preferred) placed(encoder, node string) {
	job := nomad.NewServiceJob("by-encoder", "by-encoder", "global", 50)
	job.Constrain(nomad.NewConstraint("${meta."+nomadmeta.Encoder+"}", "=", encoder)).Constrain(nomad.NewConstraint("${meta."+nomadmeta.Usable+"}", "=", "true"))
	task := nomad.NewTask("sleep", "raw_exec").SetConfig("command", "/bin/sleep").SetConfig("args", []string{"600"})
	job.AddTaskGroup(nomad.NewTaskGroup("g", 1).AddTask(task))
	_, _, err := r.Nomad.Jobs().Register(job, nil)
	r.must(err)
	r.wait("the job runs on "+node, func() bool { return r.running("by-encoder", node) != nil })
	_, _, err = r.Nomad.Jobs().Deregister("by-encoder", true, nil)
	r.must(err)
}

// stranger shows the workload identity of one host and asks for the name of another of the same job.
func (r *preferred) stranger() {
	dir := filepath.Dir(r.Backups())
	a := r.running("wavry-host-sway", faulty)
	environ, err := r.OperatorEnviron()
	r.must(err)
	files := identity.Files{Authority: filepath.Join(dir, "ca.pem")}
	source, err := files.Load()
	r.must(err)
	var log bytes.Buffer
	client, err := masterclient.New(masterclient.Config{
		Addresses: strings.Split(strings.TrimPrefix(environ[0], "WAVRY_ADDR="), ","), TLS: source.Client(identity.RoleMaster),
		Token: func() (string, error) {
			text, err := os.ReadFile(filepath.Join(dir, faulty, "n", "alloc", a.ID, "host", "secrets", "nomad_wavry.jwt"))
			return strings.TrimSpace(string(text)), err
		},
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	r.must(err)
	defer client.Close()
	link := client.NewHostLink(func() *masterapi.HostHello {
		return &masterapi.HostHello{HostId: hostOn(whole), BootId: "stranger", Identity: make([]byte, 32), Slots: 1}
	}, func(*masterapi.HostCommand) { r.t.Error("the stranger was welcomed") })
	ctx, stop := context.WithTimeout(r.t.Context(), 2*time.Second)
	defer stop()
	r.must(link.Run(ctx))
	if why := "allocation " + a.ID + " is host " + hostOn(faulty) + "; it may not be " + hostOn(whole) + " too"; !strings.Contains(log.String(), why) {
		r.t.Errorf("not %q:\n%s", why, log.String())
	}
	if !r.passing(whole) {
		r.t.Error("the host lost its link")
	}
}
