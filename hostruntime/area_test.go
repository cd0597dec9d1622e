package hostruntime_test

import (
	"testing"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/session"
	"github.com/wavry/fleet/hostruntime/streamwire"
	"github.com/wavry/fleet/master/lease"
)

func helloOf(width, height, scale uint16) streamwire.Hello {
	return streamwire.Hello{Version: streamwire.Version, Width: width, Height: height, Scale: scale, Codecs: []media.Codec{media.CodecH264}}
}

// Whoever comes, the first picture has their size: the first viewer, whose wish is there before the desktop is, and those who come back to
// it on another screen. What is captured meanwhile in the size of whoever was here before is not shown.
func TestFirstPictureHasTheViewersSize(t *testing.T) {
	r := newRig(t, nil)
	r.source.follows, r.source.may, r.source.busy = true, make(chan struct{}), make(chan struct{})
	for i, c := range []struct {
		hello streamwire.Hello
		want  session.Area
	}{
		{helloOf(391, 844, 360), session.Area{Width: 390, Height: 844, Scale: 3}},
		{helloOf(1280, 720, 120), session.Area{Width: 1280, Height: 720, Scale: 1}},
		{helloOf(2560, 1440, 240), session.Area{Width: 2560, Height: 1440, Scale: 2}},
	} {
		token := r.token(nil)
		v := r.connectAs(token, r.prepare(token), c.hello)
		expect[*streamwire.Welcome](v)
		asked := func() bool { n := len(r.source.areas); return n > 0 && r.source.areas[n-1] == c.want }
		r.source.wait(t, "the wish", asked)
		r.source.busy <- struct{}{}
		if i == 0 { // what was asked before the start is asked again after it
			r.source.note(func() { r.source.areas = nil })
			close(r.source.may)
			r.source.wait(t, "the wish again", asked)
			r.source.busy <- struct{}{}
		}
		r.source.emit(true, "of before")
		r.source.emitSized(true, "fits", c.want.Width, c.want.Height)
		if h, data := v.unit(); data != "fits" || int(h.Width) != c.want.Width || h.Sequence != 0 {
			t.Errorf("%v: the first picture is %q, %dx%d, number %d", c.want, data, h.Width, h.Height, h.Sequence)
		}
	}
}

// A desktop that cannot take the size is shown as it is, at once.
func TestFixedSizeIsShownAtOnce(t *testing.T) {
	r := newRig(t, nil)
	token := r.token(nil)
	v := r.connectAs(token, r.prepare(token), helloOf(1280, 720, 120))
	expect[*streamwire.Welcome](v)
	r.source.wait(t, "the wish", func() bool { return len(r.source.areas) > 0 })
	r.source.emit(true, "as it is")
	if _, data := v.unit(); data != "as it is" {
		t.Errorf("the first picture is %q", data)
	}
}

// A change of the scale alone is followed: another monitor, another zoom. Watchers change nothing.
func TestScaleAloneIsFollowed(t *testing.T) {
	r := newRig(t, nil)
	r.source.follows = true
	token := r.token(nil)
	v := r.connectAs(token, r.prepare(token), helloOf(64, 48, 120))
	last := func(want session.Area) func() bool {
		return func() bool { n := len(r.source.areas); return n > 0 && r.source.areas[n-1] == want }
	}
	r.source.wait(t, "the first scale", last(session.Area{Width: 64, Height: 48, Scale: 1}))
	v.send(&streamwire.Resize{Width: 64, Height: 48, Scale: 240})
	r.source.wait(t, "the other scale", last(session.Area{Width: 64, Height: 48, Scale: 2}))
	watching := r.token(func(c *lease.ViewerClaims) { c.Viewer, c.Role = "v2", lease.RoleWatch })
	w := r.connectAs(watching, r.prepare(watching), helloOf(1000, 1000, 120))
	expect[*streamwire.Welcome](w)
	v.send(&streamwire.Resize{Width: 64, Height: 48, Scale: 150})
	r.source.wait(t, "the third scale", last(session.Area{Width: 64, Height: 48, Scale: 1.25}))
	r.source.mu.Lock()
	defer r.source.mu.Unlock()
	for _, a := range r.source.areas {
		if a.Width != 64 {
			t.Errorf("a watcher resized the desktop: %v", a)
		}
	}
}

// Text and locks reach the source as they are, and what it could not type comes back to who typed it, with the reason.
func TestTextAndLocks(t *testing.T) {
	r := newRig(t, nil)
	r.source.untyped = "😀"
	v := r.connect(r.token(nil))
	expect[*streamwire.Welcome](v)
	in, err := v.OpenInput(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []streamwire.Message{&streamwire.Text{ID: 1, Text: "é😀"}, &streamwire.Locks{ID: 2, Known: 3, On: 1}, &streamwire.Scroll{ID: 3, X: -7, Y: 60}} {
		if _, err := in.Write(streamwire.AppendMessage(nil, m)); err != nil {
			t.Fatal(err)
		}
	}
	if u := expect[*streamwire.Untyped](v); u.Text != "😀" || u.Reason != "this fake has no such key" {
		t.Errorf("%+v", u)
	}
	r.source.wait(t, "the input", func() bool { return len(r.source.input) == 3 })
	e := r.source.input
	if e[0].GetText().GetText() != "é😀" || e[1].GetLocks().GetKnown() != 3 || e[1].GetLocks().GetOn() != 1 || e[2].GetScroll().GetX() != -7 || e[2].GetScroll().GetY() != 60 {
		t.Errorf("input %v", e)
	}
}
