package fingerprint

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/wavry/fleet/hostruntime/pluginhost"
)

// kept is a keeper whose trials are answered by the test, over real files in a directory.
type kept struct {
	t      *testing.T
	dir    string
	order  Order
	trials []Config
	found  []*Result
	keeper *Keeper
	hold   chan struct{} // when set, a trial waits for it

	busy   atomic.Bool
	broken atomic.Bool // every encoder fails its trial
}

func keep(t *testing.T, order Order, files ...string) *kept {
	k := &kept{t: t, dir: t.TempDir()}
	for _, f := range files {
		k.put(f)
	}
	k.order = order
	return k
}

func (k *kept) put(name string) {
	k.t.Helper()
	if err := os.WriteFile(filepath.Join(k.dir, "wavry-"+name), []byte(name), 0o700); err != nil {
		k.t.Fatal(err)
	}
}

func (k *kept) remove(name string) {
	k.t.Helper()
	if err := os.Remove(filepath.Join(k.dir, "wavry-"+name)); err != nil {
		k.t.Fatal(err)
	}
}

func (k *kept) take(ctx context.Context, cfg Config) (*Result, error) {
	k.trials = append(k.trials, cfg)
	if k.hold != nil {
		select {
		case <-k.hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	r := &Result{Dirs: cfg.Dirs}
	for _, b := range cfg.Binaries {
		p := Plugin{Name: b.Name, Role: b.Role, Path: b.Path, Verdict: OK, Methods: []Method{{Name: "m", Verdict: OK}}}
		if b.Role == pluginhost.RoleEncode && k.broken.Load() {
			p.Verdict, p.Reason, p.Remedy, p.Methods[0].Verdict = Fail, "broken", "mend it", Fail
		}
		r.Plugins = append(r.Plugins, p)
	}
	r.Choose(cfg.Order)
	return r, nil
}

// run runs the keeper in a bubble around f; a tick of the keeper is one call of look.
func (k *kept) run(f func(look func())) {
	synctest.Test(k.t, func(t *testing.T) {
		k.keeper = NewKeeper(Config{Dirs: []string{k.dir}, Order: k.order}, k.busy.Load, func(r *Result) { k.found = append(k.found, r) })
		k.keeper.take = k.take
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { k.keeper.Run(ctx); close(done) }()
		synctest.Wait()
		f(func() {
			tick, stop := context.WithTimeout(ctx, lookEvery)
			<-tick.Done()
			stop()
			synctest.Wait()
		})
		cancel()
		<-done
	})
}

func (k *kept) want(trials int, encoder string) *Result {
	k.t.Helper()
	r := k.keeper.Result()
	if len(k.trials) != trials || first(r.Encoders) != encoder || k.found[len(k.found)-1] != r {
		k.t.Fatalf("%d trials, encoder %q (%s %s), want %d and %q", len(k.trials), first(r.Encoders), r.Refused, r.Unusable(), trials, encoder)
	}
	return r
}

// The node's order goes over the configuration's, a change of either is followed, and without change nothing is tried.
func TestKeeperFollowsOrders(t *testing.T) {
	k := keep(t, Order{Encoders: []string{"encode-b"}}, "capture-a", "encode-a", "encode-b", "encode-c")
	k.run(func(look func()) {
		k.want(1, "encode-b/m")
		look()
		k.want(1, "encode-b/m")
		k.keeper.Prefer(Order{Encoders: []string{"encode-c/m", "encode-a"}})
		synctest.Wait()
		k.want(2, "encode-c/m")
		k.keeper.Configure(Order{Encoders: []string{"encode-a"}})
		synctest.Wait()
		k.want(2, "encode-c/m")
		k.keeper.Prefer(Order{})
		synctest.Wait()
		k.want(3, "encode-a/m")
		k.keeper.Configure(Order{})
		synctest.Wait()
		k.want(4, "encode-a/m")
	})
}

// A name that is nothing here is refused, the old order stays, and the plugin is used when it comes.
func TestKeeperRefuses(t *testing.T) {
	k := keep(t, Order{}, "capture-a", "encode-a", "encode-b")
	k.run(func(look func()) {
		k.keeper.Prefer(Order{Encoders: []string{"encode-b"}})
		synctest.Wait()
		k.want(2, "encode-b/m")
		for i, bad := range []string{"encode-x", "encode-a/x", "capture-a"} {
			k.keeper.Prefer(Order{Encoders: []string{bad, "encode-a"}})
			synctest.Wait()
			r := k.want(3+i, "encode-b/m")
			if !strings.Contains(r.Refused, `encode = "`+bad+`"`) || !strings.Contains(r.Refused, "use encode-a") {
				t.Errorf("%s: %q", bad, r.Refused)
			}
			if m := r.Meta()["refused"]; m == "" || r.Meta()["unusable"] != "" {
				t.Error("not published:", r.Meta())
			}
		}
		k.keeper.Prefer(Order{Encoders: []string{"encode-x", "encode-a"}})
		synctest.Wait()
		k.put("encode-x")
		look()
		if r := k.want(7, "encode-x/m"); r.Refused != "" {
			t.Error(r.Refused)
		}
	})
}

// A node that lost a plugin goes on with the next or says which file is missing, and comes back with it.
func TestKeeperSeesFiles(t *testing.T) {
	k := keep(t, Order{}, "capture-a", "encode-a", "encode-b")
	k.run(func(look func()) {
		k.remove("encode-a")
		look()
		k.want(2, "encode-b/m")
		k.remove("encode-b")
		look()
		r := k.want(3, "")
		for _, file := range []string{"encode-a", "encode-b"} {
			if why := r.Unusable(); !strings.Contains(why, k.dir+"/wavry-"+file+": the file is gone; put it back") || r.Meta()["unusable"] == "" {
				t.Error(why)
			}
		}
		k.put("encode-b")
		look()
		k.want(4, "encode-b/m")
	})
}

// A node without encoders says where they were looked for.
func TestKeeperWithoutPlugins(t *testing.T) {
	k := keep(t, Order{}, "capture-a")
	k.run(func(look func()) {
		if why := k.want(1, "").Unusable(); !strings.Contains(why, "no wavry-encode-* in "+k.dir) {
			t.Error(why)
		}
	})
}

// Nothing works: tried again by the clock, and the reason names each file that was to be used.
func TestKeeperTriesAgain(t *testing.T) {
	k := keep(t, Order{Encoders: []string{"encode-a", "encode-z"}}, "capture-a", "encode-a", "encode-b")
	k.broken.Store(true)
	k.run(func(look func()) {
		why := k.want(1, "").Unusable()
		if !strings.Contains(why, k.dir+"/wavry-encode-a: broken; mend it") || !strings.Contains(why, "wavry-encode-z is missing in "+k.dir) || strings.Contains(why, "encode-b") {
			t.Error(why)
		}
		look()
		k.want(2, "")
		k.broken.Store(false)
		look()
		k.want(3, "encode-a/m")
		look()
		k.want(3, "encode-a/m")
		k.keeper.Doubt()
		synctest.Wait()
		k.want(4, "encode-a/m")
	})
}

// Beside sessions the last result is handed on, nothing is tried by the clock, and all of it is tried when they are over.
func TestKeeperBesideSessions(t *testing.T) {
	k := keep(t, Order{}, "capture-a", "encode-a", "encode-b")
	k.run(func(look func()) {
		k.busy.Store(true)
		look()
		r := k.want(1, "encode-a/m")
		k.keeper.Prefer(Order{Encoders: []string{"encode-b"}})
		synctest.Wait()
		k.want(2, "encode-b/m")
		if k.trials[0].Beside != nil || k.trials[1].Beside != r {
			t.Error("tried as if nobody were there")
		}
		look()
		k.want(2, "encode-b/m")
		k.busy.Store(false)
		look()
		k.want(3, "encode-b/m")
		if k.trials[2].Beside != nil {
			t.Error("not everything was tried")
		}
	})
}

// A session that begins during a trial ends it, and it is made beside the session.
func TestKeeperYields(t *testing.T) {
	k := keep(t, Order{}, "capture-a", "encode-a", "encode-b")
	k.run(func(func()) {
		k.hold = make(chan struct{})
		k.keeper.Prefer(Order{Encoders: []string{"encode-b"}})
		synctest.Wait()
		k.busy.Store(true)
		k.keeper.Yield()
		synctest.Wait()
		if len(k.trials) != 3 || k.trials[2].Beside == nil {
			t.Fatalf("%d trials", len(k.trials))
		}
		k.keeper.Yield() // nothing to end: the trial knows of the session
		close(k.hold)
		synctest.Wait()
		k.want(3, "encode-b/m")
	})
}

// Beside a session what was proven stays so, an encoder that failed or changed is tried, and a capture never.
func TestBeside(t *testing.T) {
	dir := t.TempDir()
	last := &Result{Versions: map[string]string{}}
	var cfg Config
	for _, p := range []struct {
		name    string
		role    pluginhost.Role
		verdict Verdict
		same    bool
		tried   bool
		want    string
	}{
		{"capture-ok", pluginhost.RoleCapture, OK, true, false, "before"},
		{"capture-bad", pluginhost.RoleCapture, Fail, true, false, "before"},
		{"capture-new", pluginhost.RoleCapture, OK, false, false, "a session has the desktop"},
		{"encode-ok", pluginhost.RoleEncode, OK, true, false, "before"},
		{"encode-bad", pluginhost.RoleEncode, Fail, true, true, "handshake"},
		{"encode-new", pluginhost.RoleEncode, OK, false, true, "handshake"},
	} {
		path := filepath.Join(dir, p.name)
		if err := os.WriteFile(path, []byte("no program"), 0o700); err != nil {
			t.Fatal(err)
		}
		m := markOf(path)
		if !p.same {
			m = "another"
		}
		last.Plugins = append(last.Plugins, Plugin{Name: p.name, Role: p.role, Path: path, Verdict: p.verdict, Reason: "before", mark: m})
		cfg.Binaries, cfg.Beside = []pluginhost.Binary{{Name: p.name, Role: p.role, Path: path}}, last
		r, err := Run(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Plugins[0]; !strings.Contains(got.Reason, p.want) && !(p.tried && strings.Contains(got.Reason, "exec")) {
			t.Errorf("%s: %q, want %q", p.name, got.Reason, p.want)
		}
		if len(r.Checks) != len(last.Checks) {
			t.Error("the desktop was looked at")
		}
	}
}
