// Package capture is what the capture plugins share: the Plugin that turns a list of Methods into a pluginapi.Capturer, the pool of
// sealed frame buffers, the frame server and the small pure pieces (pacing, picture checks, percentiles).
//
// A Method is one way to capture on this node ("wlr-screencopy", "portal", "test"); opening it yields a Source, which is one
// running capture. The Plugin chooses, listens for the encoder, watches and stops; it knows no compositor.
package capture

import (
	"context"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/hostruntime/pluginapi/framesource"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
)

// Method is one way to capture. A Method holds no resources between calls.
type Method interface {
	// Name is the method's name in configuration and reports: lower case, words joined by '-'.
	Name() string
	// Probe says whether the method works here; with frames > 0 it captures that many and says what they were like. It never
	// disturbs a running session for longer than it runs, and leaves nothing behind. It returns when ctx ends.
	Probe(ctx context.Context, frames int) *pluginpb.ProbeItem
	// Open sets up one capture and returns when it is known to work, or why not (*pluginapi.UnavailableError where a remedy is
	// known). ctx bounds the opening only, not the life of the Source.
	Open(ctx context.Context, r *pluginpb.StartCaptureRequest) (Source, error)
}

// Source is one running capture. Inject, Resize and SetFramerate are called one at a time, while Run runs.
type Source interface {
	// Info describes the capture; it may be called at any time and does not change except for Size.
	Info() Info
	// Run serves encoders on l, one after the other, until ctx ends (nil) or the capture fails for good (its error). Events that
	// the host runtime should know (resized, cursor, non-fatal faults) go to emit, which never blocks and may be called from any
	// goroutine; heartbeats are the Plugin's business. The Plugin closes l when ctx ends.
	Run(ctx context.Context, l *framesource.Listener, emit func(*pluginpb.CaptureEvent)) error
	// Counters are for the heartbeat; called from any goroutine.
	Counters() Counters
	// Inject delivers events in order and returns when the compositor has been told. An event the method cannot deliver is
	// rejected (counted, with the reason of the last), it is not an error. The Plugin fills in the time.
	Inject(ctx context.Context, events []*pluginpb.InputEvent) (Rejected, error)
	// Resize asks for an output size, and for a scale if that is not 0, and returns the size that holds now. It is not called while Info has
	// Fixed.
	Resize(ctx context.Context, wish Size, scale float64) (Size, error)
	// SetFramerate changes the upper limit of frames per second.
	SetFramerate(ctx context.Context, fps float64) error
	// Close releases everything, on the compositor's side too. It is called once, after Run returned or instead of it.
	Close() error
}

// Size is a picture's size in pixels.
type Size struct{ Width, Height int }

// Info describes a Source.
type Info struct {
	// Reason is one clause on why this method works here: "compositor offers zwlr_screencopy_manager_v1 version 3".
	Reason string
	Kind   pluginpb.SourceKind
	Size   Size
	// Input and CursorMetadata say what works beside the picture.
	Input, CursorMetadata bool
	// Fixed says why the size cannot follow the viewer; nil: it can, and Resize works.
	Fixed *pluginapi.UnavailableError
}

// Counters count since Open. A PipeWire source cannot count frames and leaves them zero.
type Counters struct {
	Frames, Dropped uint64
	LastFrame       media.Time
}

// Rejected counts input events that could not be delivered.
type Rejected struct {
	Count  int
	Reason string
	// Untyped are characters of texts that could not be typed, with the reason of the last as a sentence for the person. Such a text is not
	// rejected: what could be typed was.
	Untyped       string
	UntypedReason string
}

// Untypable adds a character that could not be typed.
func (r *Rejected) Untypable(c rune, reason string) {
	r.Untyped += string(c)
	r.UntypedReason = reason
}

// Add counts one more event with its reason.
func (r *Rejected) Add(reason string) {
	r.Count++
	r.Reason = reason
}
