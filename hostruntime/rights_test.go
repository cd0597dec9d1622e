package hostruntime_test

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wavry/fleet/hostruntime"
	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/session"
	"github.com/wavry/fleet/hostruntime/streamwire"
	"github.com/wavry/fleet/master/lease"
)

// bite is how soon the end of a right must have its effect on a running connection.
const bite = 2 * time.Second

// by makes the claims of one lease.
func by(id, viewer string, role lease.Role) func(*lease.ViewerClaims) {
	return func(c *lease.ViewerClaims) { c.Lease, c.Viewer, c.Role = id, viewer, role }
}

// gone fails unless the connection ends in time.
func (v *viewer) gone(what string) {
	v.t.Helper()
	limit := time.NewTimer(bite)
	defer limit.Stop()
	select {
	case <-v.Done():
	case <-limit.C:
		v.t.Fatalf("%s: still connected after %s", what, bite)
	}
}

// stays fails unless the connection still gets pictures.
func (r *rig) stays(v *viewer, what string) {
	r.t.Helper()
	r.source.emit(true, what)
	for {
		if _, data := v.unit(); data == what {
			return
		}
	}
}

// connectAgain connects with a token whose lease is prepared already.
func (r *rig) connectAgain(token string) *viewer {
	r.t.Helper()
	p, err := r.host.Prepare(token, "")
	if err != nil {
		r.t.Fatal(err)
	}
	return r.connectAs(token, p, streamwire.Hello{Version: streamwire.Version, Codecs: []media.Codec{media.CodecH264}})
}

// refused connects once more with a token that was good before.
func (r *rig) refused(token string, p hostruntime.Prepared) {
	r.t.Helper()
	v := r.connectAs(token, p, streamwire.Hello{Version: streamwire.Version, Codecs: []media.Codec{media.CodecH264}})
	if bye := expect[*streamwire.Bye](v); bye.Code != streamwire.CodeLease {
		r.t.Errorf("connected again with the token of a lease that has ended: bye %+v", bye)
	}
}

// The end of one lease ends the connections that came with it and no others, and its token, good until its expiry, opens nothing more.
func TestEndedLease(t *testing.T) {
	r := newRig(t, nil)
	control := r.connect(r.token(by("l1", "v1", lease.RoleControl)))
	token := r.token(by("l2", "v2", lease.RoleWatch))
	p := r.prepare(token)
	ended := r.connect(token)
	other := r.connect(r.token(by("l3", "v3", lease.RoleWatch)))
	for _, v := range []*viewer{control, ended, other} {
		expect[*streamwire.Welcome](v)
	}
	r.host.EndLease("s1", "l2", streamwire.CodeLease, "removed")
	if bye := expect[*streamwire.Bye](ended); bye.Code != streamwire.CodeLease || bye.Text != "removed" {
		t.Errorf("bye %+v", bye)
	}
	ended.gone("the ended lease")
	r.refused(token, p)
	if err := r.host.Renew(token); !errors.Is(err, session.ErrNoLease) {
		t.Errorf("renewed after its end: %v", err)
	}
	r.stays(control, "to the controller")
	r.stays(other, "to the other watcher")
}

// A viewer that takes nothing, not even the goodbye, is cut in time all the same.
func TestEndedLeaseOfOneWhoDoesNotRead(t *testing.T) {
	r := newRig(t, nil)
	control := r.connect(r.token(by("l1", "v1", lease.RoleControl)))
	deaf := r.connect(r.token(by("l2", "v2", lease.RoleWatch)))
	expect[*streamwire.Welcome](control)
	expect[*streamwire.Welcome](deaf)
	picture := make([]byte, 4*streamwire.MaxCursor*streamwire.MaxCursor)
	for range 40 { // more than a QUIC stream's window, fewer than maxOutgoing
		r.source.sink.Event(session.Event{Cursor: &streamwire.Cursor{
			Visible: true, Width: streamwire.MaxCursor, Height: streamwire.MaxCursor, RGBA: picture,
		}})
	}
	r.host.EndLease("s1", "l2", streamwire.CodeLease, "removed")
	deaf.gone("a viewer that does not read")
}

// A viewer whose own lease was not renewed is ended, whatever becomes of the others'.
func TestOneLeaseExpires(t *testing.T) {
	var skipped atomic.Int64
	r := newRig(t, func(c *hostruntime.Config) {
		c.Now = func() time.Time { return time.Now().Add(time.Duration(skipped.Load())) }
	})
	control := r.connect(r.token(by("l1", "v1", lease.RoleControl)))
	watcher := r.connect(r.token(by("l2", "v2", lease.RoleWatch)))
	expect[*streamwire.Welcome](control)
	expect[*streamwire.Welcome](watcher)
	if err := r.host.Renew(r.token(func(c *lease.ViewerClaims) {
		by("l1", "v1", lease.RoleControl)(c)
		c.Expiry = c.Expiry.Add(lease.Lifetime)
	})); err != nil {
		t.Fatal(err)
	}
	skipped.Store(int64(lease.Lifetime + lease.Skew + time.Second))
	if bye := expect[*streamwire.Bye](watcher); bye.Code != streamwire.CodeLease {
		t.Errorf("bye %+v", bye)
	}
	watcher.gone("the lease that nobody renewed")
	r.stays(control, "to the controller")
}

// A controller that may only watch from now on sees on and steers no more; what was on its way is dropped, and nobody is cut for it.
func TestDemotedViewer(t *testing.T) {
	r := newRig(t, nil)
	token := r.token(by("l1", "v1", lease.RoleControl))
	p := r.prepare(token)
	v := r.connect(token)
	if w := expect[*streamwire.Welcome](v); w.Role != streamwire.RoleControl {
		t.Fatalf("welcome %+v", w)
	}
	input, err := v.OpenInput(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	press := func(id uint32) {
		t.Helper()
		if _, err := input.Write(streamwire.AppendMessage(nil, &streamwire.Key{ID: id, Code: 30, Down: true})); err != nil {
			t.Fatal(err)
		}
	}
	press(1)
	r.source.wait(t, "the key", func() bool { return len(r.source.input) == 1 })
	if err := r.host.Renew(r.token(by("l1", "v1", lease.RoleWatch))); err != nil {
		t.Fatal(err)
	}
	for w := expect[*streamwire.Welcome](v); w.Role != streamwire.RoleWatch; w = expect[*streamwire.Welcome](v) {
	}
	r.source.wait(t, "what was held down to be lifted", func() bool {
		return len(r.source.input) == 2 && r.source.input[1].GetReleaseAll() != nil
	})
	press(2)
	if err := v.SendDatagram(streamwire.AppendMotionAbsolute(nil, streamwire.MotionAbsolute{ID: 3, X: 1, Y: 1})); err != nil {
		t.Fatal(err)
	}
	r.stays(v, "to the watcher")
	// Somebody else may take control at once, and its input comes after whatever the watcher sent.
	second := r.connect(r.token(by("l2", "v2", lease.RoleControl)))
	expect[*streamwire.Welcome](second)
	steering, err := second.OpenInput(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := steering.Write(streamwire.AppendMessage(nil, &streamwire.Key{ID: 1, Code: 31, Down: true})); err != nil {
		t.Fatal(err)
	}
	r.source.wait(t, "the new controller's key", func() bool { return len(r.source.input) == 3 })
	if k := r.source.input[2].GetKey(); k == nil || k.Code != 31 {
		t.Errorf("the watcher steered: %v", r.source.input[2:])
	}
	// The old control token is worth what the lease is worth now.
	again := r.connectAs(token, p, streamwire.Hello{Version: streamwire.Version, Codecs: []media.Codec{media.CodecH264}})
	if w := expect[*streamwire.Welcome](again); w.Role != streamwire.RoleWatch || w.Input {
		t.Errorf("welcome %+v", w)
	}
}

// A viewer that moves to another of its leases keeps its old path for the moment until the new one shows pictures, and no longer.
func TestMovedLease(t *testing.T) {
	r := newRig(t, nil)
	old := r.connect(r.token(by("l1", "v1", lease.RoleControl)))
	expect[*streamwire.Welcome](old)
	fresh := r.connect(r.token(by("l2", "v1", lease.RoleControl)))
	expect[*streamwire.Welcome](fresh)
	r.host.EndLease("s1", "l1", streamwire.CodeMoved, "moved")
	r.stays(old, "over the old path")
	if bye := expect[*streamwire.Bye](old); bye.Code != streamwire.CodeReplaced && bye.Code != streamwire.CodeMoved {
		t.Errorf("bye %+v", bye)
	}
	old.gone("the old path")
	r.stays(fresh, "over the new path")
}

// Whoever watches, also an operator, is announced to the others by name before the first picture goes to them, and whoever leaves is
// taken off the list; a person with two connections is named once.
func TestWatcherIsAnnounced(t *testing.T) {
	r := newRig(t, nil)
	prepare := func(name, token string) string {
		t.Helper()
		if _, err := r.host.Prepare(token, name); err != nil {
			t.Fatal(err)
		}
		return token
	}
	others := func(v *viewer, want ...streamwire.Person) {
		t.Helper()
		if got := expect[*streamwire.People](v).Others; !slices.Equal(got, want) {
			t.Fatalf("others %v, want %v", got, want)
		}
	}
	ada := streamwire.Person{Role: streamwire.RoleControl, Name: "Ada"}
	oz := streamwire.Person{Role: streamwire.RoleWatch, Name: "Oz, operator"}
	controller := r.connectAgain(prepare("Ada", r.token(by("l1", "v1", lease.RoleControl))))
	others(controller)
	token := prepare("Oz, operator", r.token(by("l2", "v2", lease.RoleWatch)))
	first := r.connectAgain(token)
	others(controller, oz)
	others(first, ada)
	second := r.connectAgain(token) // a second connection of the same viewer, as in a hand-over
	others(second, ada)
	moved := r.connectAgain(prepare("", r.token(by("l3", "v2", lease.RoleWatch)))) // a new lease comes without a name
	others(moved, ada)
	anna := r.connectAgain(prepare("Anna", r.token(by("l4", "v3", lease.RoleWatch))))
	others(controller, oz, streamwire.Person{Name: "Anna"}) // nothing was told between
	others(anna, ada, oz)
	r.host.EndLease("s1", "l2", streamwire.CodeLease, "removed")
	r.host.EndLease("s1", "l3", streamwire.CodeLease, "removed")
	others(controller, streamwire.Person{Name: "Anna"})
	anna.Close()
	others(controller)
}
