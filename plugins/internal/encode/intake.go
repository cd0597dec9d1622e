package encode

import (
	"context"
	"time"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/plugins/internal/gstpipe"
)

// frame is a picture with what is known about it. Whoever holds the frame holds the picture's reference.
type frame struct {
	picture gstpipe.Picture
	capture media.Time
	handoff media.Time
	repeat  bool
}

// intake brings pictures into this process.
type intake interface {
	// run delivers frames until ctx ends (nil) or the source is gone (why). It owns its goroutines and threads and returns after them.
	run(ctx context.Context, deliver func(frame) bool) error
	// spare reports whether the source can go on while we keep one more picture.
	spare() bool
}

// oldestPicture bounds what a source may claim: a picture that is older, or from the future, gets the time it came.
const oldestPicture = 2 * time.Second

// stamped makes sure that a capture time can be subtracted from.
func stamped(capture, now media.Time) media.Time {
	if capture > now || now.Sub(capture) > oldestPicture {
		return now
	}
	return capture
}
