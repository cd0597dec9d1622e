package capture

import (
	"fmt"

	"github.com/wavry/fleet/hostruntime/pluginapi/framesource"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
)

// minDimension is the smallest width and height that every encoder takes.
const minDimension = 16

// SizeOf reads a wire size; nil is the zero Size.
func SizeOf(s *pluginpb.Size) Size {
	return Size{Width: int(s.GetWidth()), Height: int(s.GetHeight())}
}

// Zero reports "leave it as it is".
func (s Size) Zero() bool { return s.Width == 0 && s.Height == 0 }

func (s Size) String() string { return fmt.Sprintf("%dx%d", s.Width, s.Height) }

func (s Size) proto() *pluginpb.Size {
	return &pluginpb.Size{Width: uint32(s.Width), Height: uint32(s.Height)}
}

func (s Size) check() error {
	bad := func(n int) bool { return n < minDimension || n > framesource.MaxDimension }
	if bad(s.Width) || bad(s.Height) {
		return fmt.Errorf("size %v is outside %d..%d", s, minDimension, framesource.MaxDimension)
	}
	return nil
}

// checkScale takes 0 for unknown.
func checkScale(scale float64) error {
	if scale == 0 || (scale >= minScale && scale <= maxScale) {
		return nil
	}
	return fmt.Errorf("scale %g is outside %g..%g", scale, minScale, maxScale)
}

// Resized is the event that tells the host runtime about a new output size.
func Resized(s Size) *pluginpb.CaptureEvent {
	return &pluginpb.CaptureEvent{Event: &pluginpb.CaptureEvent_Resized{Resized: s.proto()}}
}

// Fault is the event of something that went wrong and is not (yet) the end.
func Fault(reason, remedy string) *pluginpb.CaptureEvent {
	return &pluginpb.CaptureEvent{Event: &pluginpb.CaptureEvent_Fault{
		Fault: &pluginpb.CaptureFault{Reason: reason, Remedy: remedy},
	}}
}
