package encode

import (
	"fmt"
	"sync"
	"time"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/plugins/internal/gstpipe"
)

// encoder is one running pipeline for pictures of one size and format.
type encoder struct {
	pipeline *gstpipe.Pipeline
	method   *Method
	in       Input
	base     media.Time
	at       time.Duration // of the last picture pushed; strictly increasing
	pushed   bool          // there was a first picture, which is a keyframe without asking
	quit     chan struct{}
	pulling  sync.WaitGroup
}

// result is a unit, or why no more will come, from one encoder.
type result struct {
	from *encoder
	unit gstpipe.Unit
	at   media.Time
	err  error
}

// startEncoder builds and starts a pipeline; its results go to out until close.
func startEncoder(m *Method, in Input, out chan<- result) (*encoder, error) {
	p, err := gstpipe.Build("encode", m.chain(in))
	if err != nil {
		return nil, m.explain(in.Codec, err)
	}
	if err := p.Start(startTimeout, false); err != nil {
		p.Close()
		return nil, m.explain(in.Codec, err)
	}
	e := &encoder{pipeline: p, method: m, in: in, base: media.Now(), quit: make(chan struct{})}
	e.pulling.Add(1)
	go func() { defer e.pulling.Done(); e.pull(out) }() // ends with close
	return e, nil
}

func (e *encoder) pull(out chan<- result) {
	for {
		u, err := e.pipeline.PullUnit(0)
		select {
		case out <- result{from: e, unit: u, at: media.Now(), err: err}:
		case <-e.quit:
			return
		}
		if err != nil {
			return
		}
	}
}

// push sends a picture in; with key its unit will be a keyframe. The encoder must be empty.
func (e *encoder) push(p *gstpipe.Picture, now media.Time, key bool) error {
	if key && e.pushed {
		if err := e.pipeline.ForceKey(); err != nil {
			return err
		}
	}
	e.pushed = true
	e.at = max(e.at+1, now.Sub(e.base))
	return e.pipeline.Push(p, e.at, e.duration())
}

// duration is how long a picture is shown at the nominal rate.
func (e *encoder) duration() time.Duration { return time.Duration(float64(time.Second) / e.in.FPS) }

// setRate changes the bit rate without a restart.
func (e *encoder) setRate(bps uint32) error {
	for _, p := range e.method.Rate(e.in, bps) {
		if err := e.pipeline.Set(EncoderName, p.Name, p.Value); err != nil && !p.Optional {
			return fmt.Errorf("set bit rate %d: %w", bps, err)
		}
	}
	return nil
}

// fits reports whether pictures of this layout can go in as they are.
func (e *encoder) fits(l media.Layout, dmabuf bool) bool {
	have := e.in.Layout
	return have.Width == l.Width && have.Height == l.Height && have.Format == l.Format && e.in.DMABuf == dmabuf &&
		(!dmabuf || have.Modifier == l.Modifier)
}

// close stops the pipeline and returns when its threads and ours are gone.
func (e *encoder) close() {
	close(e.quit)
	e.pipeline.Stop() // wakes the puller
	e.pulling.Wait()
	e.pipeline.Close()
}
