package pipeline

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/wavry/fleet/hostruntime/media"
)

// script drives a supervisor through virtual time and writes down what it wants.
type script struct {
	t   *testing.T
	s   *supervisor
	now media.Time
	log []string
}

func newScript(t *testing.T, captures, encoders int) *script {
	t.Helper()
	list := func(prefix string, n int) (out []string) {
		for i := range n {
			out = append(out, fmt.Sprint(prefix, i))
		}
		return out
	}
	sc := &script{t: t, s: newSupervisor(list("c", captures), list("e", encoders)), now: media.Time(time.Hour)}
	sc.do(sc.s.begin(sc.now))
	return sc
}

func (sc *script) do(actions []action) {
	for _, a := range actions {
		switch a.kind {
		case actStart:
			sc.log = append(sc.log, fmt.Sprintf("start %s%d", a.role.String()[:1], a.candidate))
			if a.delay > 0 {
				sc.log[len(sc.log)-1] += "+" + a.delay.String()
			}
		case actStop:
			sc.log = append(sc.log, "stop "+a.role.String()[:1])
		case actRecover:
			sc.log = append(sc.log, fmt.Sprintf("recover %s %s", a.role.String()[:1], a.cause))
		case actLive:
			sc.log = append(sc.log, "live")
		case actGiveUp:
			sc.log = append(sc.log, "give up: "+a.err.Error())
		}
	}
}

// wait passes time; every 250 ms the given things happen, as heartbeats and pictures do.
func (sc *script) wait(d time.Duration, happens ...func()) {
	for end := sc.now.Add(d); sc.now < end; {
		sc.now = min(sc.now.Add(250*time.Millisecond), end)
		for _, h := range happens {
			h()
		}
		sc.do(sc.s.tick(sc.now))
	}
}

func (sc *script) run(r role) uint64 { return sc.s.slots[r].run }
func (sc *script) beatC()            { sc.s.beat(roleCapture, sc.run(roleCapture), sc.now) }
func (sc *script) beatE()            { sc.s.beat(roleEncoder, sc.run(roleEncoder), sc.now) }
func (sc *script) unit()             { sc.do(sc.s.unit(sc.run(roleEncoder), sc.now, false)) }
func (sc *script) repeated()         { sc.do(sc.s.unit(sc.run(roleEncoder), sc.now, true)) }

// look reports a picture; frames and units advance unless still.
func (sc *script) look(hash uint64, black, frames, units bool) func() {
	return func() {
		v := &sc.s.view
		f, u := v.frames, v.units
		if frames {
			f += 15
		}
		if units {
			u += 15
		}
		sc.s.look(sc.run(roleEncoder), sc.now, hash, black, f, u)
	}
}

func (sc *script) startBoth() {
	sc.s.started(roleCapture, sc.run(roleCapture), sc.now)
	sc.s.started(roleEncoder, sc.run(roleEncoder), sc.now)
}

// up brings everything to life.
func (sc *script) up() {
	sc.startBoth()
	sc.unit()
}

func (sc *script) crash(r role) {
	sc.do(sc.s.failed(r, sc.run(r), sc.now, causeCrash, errors.New("signal: killed")))
}

// expect compares what was wanted since the last expect.
func (sc *script) expect(want string) {
	sc.t.Helper()
	if got := strings.Join(sc.log, ", "); got != want {
		sc.t.Fatalf("at %v\n got %s\nwant %s", sc.now, got, want)
	}
	sc.log = nil
}

// TestSupervise proves each decision on its own: what happened, and what follows.
func TestSupervise(t *testing.T) {
	all := func(sc *script) []func() { return []func(){sc.beatC, sc.beatE, sc.unit, sc.look(1, false, true, true)} }
	for _, c := range []struct {
		name               string
		captures, encoders int
		script             func(*script)
	}{
		{"live with the first unit, once", 1, 1, func(sc *script) {
			sc.expect("start c0, start e0")
			sc.up()
			sc.unit()
			sc.expect("live")
			sc.wait(time.Minute, all(sc)...)
			sc.expect("")
		}},
		{"encoder crash restarts the encoder at once", 2, 2, func(sc *script) {
			sc.up()
			sc.log = nil
			sc.crash(roleEncoder)
			sc.expect("stop e, recover e crash, start e0")
			sc.s.started(roleEncoder, sc.run(roleEncoder), sc.now)
			sc.unit()
			sc.expect("live")
		}},
		{"capture crash restarts both", 2, 2, func(sc *script) {
			sc.up()
			sc.log = nil
			sc.crash(roleCapture)
			sc.expect("stop c, stop e, recover c crash, start c0, start e0")
		}},
		{"second crash in a row falls back, with backoff", 2, 1, func(sc *script) {
			sc.up()
			sc.crash(roleCapture)
			sc.up()
			sc.log = nil
			sc.crash(roleCapture)
			sc.expect("stop c, stop e, recover c crash, start c1+100ms, start e0+100ms")
		}},
		{"crashes far apart are forgiven", 2, 1, func(sc *script) {
			sc.up()
			sc.crash(roleCapture)
			sc.up()
			sc.wait(healthyAfter, all(sc)...)
			sc.log = nil
			sc.crash(roleCapture)
			sc.expect("stop c, stop e, recover c crash, start c0, start e0")
		}},
		{"a refusal falls back at once", 1, 3, func(sc *script) {
			sc.log = nil
			sc.do(sc.s.failed(roleEncoder, sc.run(roleEncoder), sc.now, causeRefused, errors.New("no GPU")))
			sc.expect("stop e, recover e refused, start e1")
		}},
		{"what an old run says is ignored", 1, 1, func(sc *script) {
			old := sc.run(roleEncoder)
			sc.up()
			sc.crash(roleEncoder)
			sc.log = nil
			sc.do(sc.s.failed(roleEncoder, old, sc.now, causeCrash, errors.New("late")))
			sc.do(sc.s.unit(old, sc.now, false))
			sc.expect("")
		}},
		{"silent encoder hangs within a second", 1, 1, func(sc *script) {
			sc.up()
			sc.log = nil
			sc.wait(750*time.Millisecond, sc.beatC)
			sc.expect("")
			sc.wait(250*time.Millisecond, sc.beatC)
			sc.expect("stop e, recover e hang, start e0")
		}},
		{"silent capture hangs although the encoder repeats its picture", 1, 1, func(sc *script) {
			sc.up()
			sc.log = nil
			sc.wait(time.Second, sc.beatE, sc.repeated)
			sc.expect("stop c, stop e, recover c hang, start c0, start e0")
		}},
		{"new pictures prove the capture alive without heartbeats", 1, 1, func(sc *script) {
			sc.up()
			sc.log = nil
			sc.wait(5*time.Second, sc.unit)
			sc.expect("")
		}},
		{"a start that takes too long is a hang, the capture's first", 1, 1, func(sc *script) {
			sc.log = nil
			sc.wait(startTimeout, func() {})
			sc.expect("")
			sc.wait(250 * time.Millisecond)
			sc.expect("stop c, stop e, recover c hang, start c0, start e0")
		}},
		{"the encoder's time begins when the capture is there", 1, 1, func(sc *script) {
			sc.log = nil
			sc.wait(startTimeout-time.Second, func() {})
			sc.s.started(roleCapture, sc.run(roleCapture), sc.now)
			sc.wait(startTimeout, sc.beatC)
			sc.expect("")
			sc.wait(250*time.Millisecond, sc.beatC)
			sc.expect("stop e, recover e hang, start e0")
		}},
		{"no picture at all is the capture's fault", 1, 1, func(sc *script) {
			sc.startBoth()
			sc.log = nil
			sc.wait(firstUnitAfter, sc.beatC, sc.beatE, sc.look(0, false, false, false))
			sc.expect("")
			sc.wait(250*time.Millisecond, sc.beatC, sc.beatE)
			sc.expect("stop c, stop e, recover c no_picture, start c0, start e0")
		}},
		{"pictures in and nothing out is the encoder's", 1, 1, func(sc *script) {
			sc.up()
			sc.log = nil
			sc.wait(unitAfter+250*time.Millisecond, sc.beatC, sc.beatE, sc.look(1, false, true, false))
			sc.expect("")
			sc.wait(250*time.Millisecond, sc.beatC, sc.beatE, sc.look(1, false, true, false))
			sc.expect("stop e, recover e no_picture, start e0")
		}},
		{"black without input is a black desktop", 2, 1, func(sc *script) {
			sc.up()
			sc.log = nil
			sc.wait(time.Minute, sc.beatC, sc.beatE, sc.unit, sc.look(5, true, true, true))
			sc.expect("")
		}},
		{"black with input: again, then the next, then believed", 3, 1, func(sc *script) {
			typing := func() { sc.s.input(1) }
			black := []func(){sc.beatC, sc.beatE, sc.unit, sc.look(5, true, true, true), typing}
			sc.up()
			sc.log = nil
			sc.wait(blackAfter+500*time.Millisecond, black...)
			sc.expect("stop c, stop e, recover c black, start c0, start e0")
			sc.up()
			sc.log = nil
			sc.wait(blackAfter+250*time.Millisecond, black...)
			sc.expect("stop c, stop e, recover c black, start c1+100ms, start e0+100ms")
			sc.up()
			sc.log = nil
			sc.wait(time.Minute, black...)
			sc.expect("")
		}},
		{"frozen with new pictures and input", 2, 1, func(sc *script) {
			typing := func() { sc.s.input(1) }
			sc.up()
			sc.log = nil
			sc.wait(frozenAfter+500*time.Millisecond, sc.beatC, sc.beatE, sc.unit, sc.look(7, false, true, true), typing)
			sc.expect("stop c, stop e, recover c frozen, start c0, start e0")
		}},
		{"an idle desktop under input is not frozen", 2, 1, func(sc *script) {
			typing := func() { sc.s.input(1) }
			sc.up()
			sc.log = nil
			sc.wait(time.Minute, sc.beatC, sc.beatE, sc.repeated, sc.look(7, false, false, true), typing)
			sc.expect("")
		}},
		{"pictures nobody can look at are not judged", 2, 1, func(sc *script) {
			typing := func() { sc.s.input(1) }
			sc.up()
			sc.log = nil
			sc.wait(time.Minute, sc.beatC, sc.beatE, sc.unit, sc.look(0, true, true, true), typing)
			sc.expect("")
		}},
		{"nothing ever works: two rounds, then the end with all reasons", 1, 2, func(sc *script) {
			sc.s.started(roleCapture, sc.run(roleCapture), sc.now)
			for range 4 {
				sc.log = nil
				sc.do(sc.s.failed(roleEncoder, sc.run(roleEncoder), sc.now, causeRefused, errors.New("no")))
			}
			sc.expect("stop c, stop e, give up: no encoder plugin works: e0 (refused): no; e1 (refused): no; run `wavry host doctor` on the host")
			sc.wait(time.Minute)
			sc.expect("")
		}},
		{"a session that had pictures goes on trying", 1, 1, func(sc *script) {
			sc.up()
			for range 8 {
				sc.crash(roleCapture)
				sc.now = sc.now.Add(2 * time.Second)
			}
			sc.log = nil
			sc.crash(roleCapture)
			sc.expect("stop c, stop e, recover c crash, start c0+2s, start e0+2s")
			sc.now = sc.now.Add(giveUpAfter)
			sc.crash(roleCapture)
			sc.expect("stop c, stop e, give up: no capture plugin works: c0 (crash): signal: killed; run `wavry host doctor` on the host")
		}},
		{"when no encoder works with a capture, the next capture is tried", 2, 1, func(sc *script) {
			sc.startBoth()
			sc.crash(roleEncoder)
			sc.log = nil
			sc.crash(roleEncoder)
			sc.expect("stop c, stop e, recover e crash, start c1+100ms, start e0+100ms")
		}},
	} {
		t.Run(c.name, func(t *testing.T) { c.script(newScript(t, c.captures, c.encoders)) })
	}
}

// TestWake proves that a tick at the time wake names is enough to see every silence in time.
func TestWake(t *testing.T) {
	sc := newScript(t, 1, 1)
	sc.up()
	sc.log = nil
	begin := sc.now
	for len(sc.log) == 0 {
		next := sc.s.wake(sc.now)
		if next <= sc.now {
			t.Fatal("wake in the past")
		}
		sc.now = next
		sc.do(sc.s.tick(sc.now))
	}
	if took := sc.now.Sub(begin); took > time.Second {
		t.Fatalf("silence seen after %v: %s", took, sc.log)
	}
}

// TestBackoff proves the waits: none, then doubling to the limit.
func TestBackoff(t *testing.T) {
	for attempt, want := range []time.Duration{0, 0, 100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond} {
		if got := backoff(attempt); got != want {
			t.Errorf("attempt %d: %v, want %v", attempt, got, want)
		}
	}
	if got := backoff(1000); got != backoffMax {
		t.Error(got)
	}
}
