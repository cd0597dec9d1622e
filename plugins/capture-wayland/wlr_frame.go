package main

import (
	"fmt"
	"time"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/plugins/internal/wayland"
)

// wlrFrame is one picture on its way: the compositor says what it will write (described), we name a buffer, it writes (ready) or not
// (failed). The zero value is ready for begin.
type wlrFrame struct {
	proxy  *wayland.ScreencopyFrame
	events chan wlrFrameEvent // one frame has at most two
}

// wlrOffer is what the compositor can write into.
type wlrOffer struct {
	shm    wlrPicture // zero: not offered
	dmabuf wlrPicture // zero: not offered
}

// wlrPicture is the format of a picture; stride is 0 for DMA-BUFs.
type wlrPicture struct {
	format                uint32
	width, height, stride uint32
}

type wlrFrameStep uint8

const (
	frameDescribed wlrFrameStep = iota
	frameReady
	frameFailed
)

type wlrFrameEvent struct {
	frame *wayland.ScreencopyFrame // an event of a frame that was given up is recognised by it
	step  wlrFrameStep
	offer wlrOffer   // of frameDescribed
	time  media.Time // of frameReady
	flags uint32     // of frameReady
}

const flagYInvert = 1

// maxFrameEvents is what one frame and one just given up can have queued; handlers must not block.
const maxFrameEvents = 8

func newWlrFrame() *wlrFrame {
	return &wlrFrame{events: make(chan wlrFrameEvent, maxFrameEvents)}
}

// begin asks for the next picture of the output.
func (f *wlrFrame) begin(d *wlrDesktop, cursor bool) {
	if f.proxy == nil {
		f.proxy = f.newProxy()
	}
	overlay := int32(0)
	if cursor {
		overlay = 1
	}
	d.copier.CaptureOutput(f.proxy, overlay, &d.output.Output)
}

// finish ends a frame after its last event, so that its proxy can be used again.
func (f *wlrFrame) finish() { f.proxy.Destroy() }

// abandon ends a frame of which events may still be under way.
func (f *wlrFrame) abandon() {
	f.proxy.Destroy()
	f.proxy = nil
}

// newProxy makes handlers that allocate nothing when called.
func (f *wlrFrame) newProxy() *wayland.ScreencopyFrame {
	p := &wayland.ScreencopyFrame{}
	offer, flags := wlrOffer{}, uint32(0)
	send := func(e wlrFrameEvent) {
		e.frame = p
		select {
		case f.events <- e:
		default: // only a compositor that invents events gets here; the frame then makes no progress and the capture ends
		}
	}
	described := func() { send(wlrFrameEvent{step: frameDescribed, offer: offer}) }
	p.On.Buffer = func(format, width, height, stride uint32) {
		offer, flags = wlrOffer{shm: wlrPicture{format, width, height, stride}}, 0
		if p.Version() < 3 { // since 3 there may be more, ended by buffer_done
			described()
		}
	}
	p.On.LinuxDmabuf = func(format, width, height uint32) {
		offer.dmabuf = wlrPicture{format: format, width: width, height: height}
	}
	p.On.BufferDone = described
	p.On.Flags = func(v uint32) { flags = v }
	p.On.Ready = func(hi, lo, nsec uint32) {
		at := media.Time((int64(hi)<<32|int64(lo))*int64(time.Second) + int64(nsec))
		send(wlrFrameEvent{step: frameReady, time: at, flags: flags})
	}
	p.On.Failed = func() { send(wlrFrameEvent{step: frameFailed}) }
	return p
}

// wl_shm's own names of the two formats that do not use their FourCC.
const (
	shmARGB8888 = 0
	shmXRGB8888 = 1
)

// fourCC turns a wl_shm format into ours, or says why it cannot be used.
func fourCC(shmFormat uint32) (media.FourCC, error) {
	switch shmFormat {
	case shmARGB8888:
		return media.FormatARGB8888, nil
	case shmXRGB8888:
		return media.FormatXRGB8888, nil
	}
	f := media.FourCC(shmFormat)
	switch f {
	case media.FormatXBGR8888, media.FormatABGR8888:
		return f, nil
	}
	return 0, &pluginapi.UnavailableError{
		Reason: fmt.Sprintf("compositor writes pictures only as %v", f),
		Remedy: "set the output to 8 bits per colour (sway: output * render_bit_depth 8)",
	}
}
