package relay

import (
	"context"
	"time"
)

// pauseRequest asks for the data path to stand still while during runs. When during returns nil the path does not start again.
type pauseRequest struct {
	during func() error
	done   chan error
}

// runPath runs the data path and stops it for whoever asks.
func (r *Relay) runPath(ctx context.Context, path dataPath) error {
	for {
		pathCtx, cancel := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- path.run(pathCtx) }() // ends with pathCtx; waited for below on every way
		select {
		case err := <-ended:
			cancel()
			return err
		case p := <-r.pauses:
			cancel()
			if err := <-ended; err != nil {
				p.done <- err
				return err
			}
			r.settle()
			err := p.during()
			p.done <- err
			if err == nil {
				return ErrHandedOver
			}
			r.log.Warn("data path resumes", "cause", err)
		}
	}
}

// settle waits until the verifiers have taken what was queued before the path stopped, so that a snapshot misses nothing.
func (r *Relay) settle() {
	deadline := time.Now().Add(handoverTimeout / 4)
	for len(r.engine.admission.free) < verifyQueue && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond) // bounded, once per hand-over
	}
}

// pause stops the data path for during. It returns during's error.
func (r *Relay) pause(ctx context.Context, during func() error) error {
	p := pauseRequest{during: during, done: make(chan error, 1)}
	select {
	case r.pauses <- p:
		return <-p.done
	case <-ctx.Done():
		return ctx.Err()
	}
}
