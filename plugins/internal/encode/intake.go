package encode

import (
	"context"
	"time"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/plugins/internal/gstpipe"
)

// intake brings pictures into this process.
type intake interface {
	// run delivers frames until ctx ends (nil) or the source is gone (why). It owns its goroutines and threads and returns after them.
	run(ctx context.Context, deliver func(gstpipe.Frame) bool) error
	// buffers are what pictures lie in; nil when the source has enough of its own.
	buffers() *gstpipe.Buffers
	// close frees what is left after run and the last picture.
	close()
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
