// Package pluginapi is the contract between the host runtime and its plugins: the Capturer and Encoder interfaces, go-plugin's
// handshake and versions, and the gRPC glue on the plugin's side. The messages are in package pluginpb (plugin.proto), raw frames
// travel by package framesource.
//
// A plugin binary calls ServeCapturer or ServeEncoder in main and is one capture or one encoder run: the host runtime starts one
// process per run and kills it after, so a plugin need not survive its own failure, only report it.
package pluginapi

import (
	"context"

	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
)

// Capturer is a capture plugin. Methods other than Watch return within a second; all may be called from any goroutine.
// Errors should be *UnavailableError where a remedy is known.
type Capturer interface {
	// Probe says what would work on this node, one item per method, and with Frames > 0 proves it by capturing.
	Probe(context.Context, *pluginpb.ProbeRequest) (*pluginpb.ProbeReport, error)
	// Start begins the capture and listens on SourcePath. It returns when the first method works, with its reason.
	Start(context.Context, *pluginpb.StartCaptureRequest) (*pluginpb.CaptureStarted, error)
	// Watch emits heartbeats (at least every 500 ms) and events until ctx ends (nil) or the capture fails for good (its error).
	Watch(ctx context.Context, emit func(*pluginpb.CaptureEvent) error) error
	// Inject delivers input in order and returns when the compositor has been told.
	Inject(context.Context, *pluginpb.InputBatch) (*pluginpb.Injected, error)
	// Resize asks for another output size and returns the one that holds now.
	Resize(context.Context, *pluginpb.Size) (*pluginpb.Size, error)
	SetFramerate(context.Context, float64) error
	// Stop ends the capture and releases everything, on the compositor's side too. It is idempotent.
	Stop(context.Context) error
}

// Encoder is an encoder plugin. The rules of Capturer hold.
type Encoder interface {
	Probe(context.Context, *pluginpb.ProbeRequest) (*pluginpb.ProbeReport, error)
	// Start connects to SourcePath and begins. It returns when the pipeline is built; the first unit may come later.
	Start(context.Context, *pluginpb.StartEncodeRequest) (*pluginpb.EncodeStarted, error)
	// Watch emits access units in order, and heartbeats (at least every 500 ms), until ctx ends (nil) or the run fails (its error).
	// The first unit emitted is a keyframe. emit blocks while the host runtime is busy; the encoder then drops raw frames.
	Watch(ctx context.Context, emit func(*pluginpb.EncodeEvent) error) error
	SetBitrate(ctx context.Context, bitsPerSecond uint32) error
	SetFramerate(context.Context, float64) error
	// RequestKeyframe makes the next unit a keyframe, re-encoding the last picture if nothing new comes.
	RequestKeyframe(context.Context) error
	Stop(context.Context) error
}
