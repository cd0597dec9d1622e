package fakeplugin

import (
	"os"
	"time"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/framesource"
)

// buffers of one size: one being written, one on its way, one with the encoder.
const buffers = 3

// feeder paces frames into one sink.
type feeder struct {
	c        *Capturer
	sink     *framesource.Sink
	pictures map[uint32]*picture
	free     []uint32
	nextID   uint32
	sequence uint64
	painted  uint64 // step of the last picture sent
	lastSent media.Time
	first    bool
}

func (c *Capturer) feed(sink *framesource.Sink) error {
	if c.b.Garbage || c.b.WrongFD || c.b.ManyFDs {
		return c.misfeed(sink)
	}
	f := &feeder{c: c, sink: sink, pictures: map[uint32]*picture{}, first: true}
	defer f.close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-c.done:
			return nil
		case <-sink.Done():
			return sink.Err()
		case <-timer.C:
			timer.Reset(c.interval())
			if err := f.tick(); err != nil {
				return err
			}
		}
	}
}

func (c *Capturer) interval() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Duration(float64(time.Second) / c.fps)
}

func (f *feeder) release(id uint32) {
	if _, known := f.pictures[id]; known {
		f.free = append(f.free, id)
	}
}

// tick sends the picture if it changed or a keep-alive is due.
func (f *feeder) tick() error {
	width, height, step, due := f.plan()
	if !due || f.c.b.NoPicture {
		return nil
	}
	if !f.c.frame() {
		return nil
	}
	if err := f.resize(width, height); err != nil {
		return err
	}
	f.sink.Collect(f.release)
	if len(f.free) == 0 {
		f.c.mu.Lock()
		f.c.dropped++
		f.c.mu.Unlock()
		return nil
	}
	return f.send(step)
}

func (f *feeder) plan() (width, height int, step uint64, due bool) {
	c := f.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.b.Idle {
		c.step++
	}
	due = f.first || c.step != f.painted
	if !due && c.keepalive > 0 {
		due = media.Now().Sub(f.lastSent).Seconds() >= 1/c.keepalive
	}
	return c.width, c.height, c.step, due
}

// resize replaces the buffers when the size changed.
func (f *feeder) resize(width, height int) error {
	for _, p := range f.pictures {
		if p.Layout.Width == width && p.Layout.Height == height {
			return nil
		}
	}
	for id, p := range f.pictures {
		if err := f.sink.Forget(id); err != nil {
			return err
		}
		p.close()
		delete(f.pictures, id)
	}
	f.free = f.free[:0]
	for range buffers {
		p, err := newPicture(f.nextID, width, height, !f.c.b.Unsealed)
		if err != nil {
			return err
		}
		f.nextID++
		f.pictures[p.ID] = p
		f.free = append(f.free, p.ID)
		if err := f.sink.Register(p.Buffer); err != nil {
			return err
		}
	}
	return nil
}

func (f *feeder) send(step uint64) error {
	id := f.free[0]
	f.free = f.free[1:]
	p, b := f.pictures[id], f.c.b
	repeat := !f.first && step == f.painted
	switch {
	case b.Black:
		clear(p.mem)
	case b.Frozen:
		p.paint(1)
	default:
		p.paint(step)
	}
	f.first, f.painted, f.lastSent = false, step, media.Now()
	f.c.mu.Lock()
	f.c.lastFrame = f.lastSent
	f.c.mu.Unlock()
	f.sequence++
	return f.sink.Send(framesource.Frame{Buffer: id, Sequence: f.sequence - 1, CaptureTime: f.lastSent, Repeat: repeat})
}

func (f *feeder) close() {
	for _, p := range f.pictures {
		p.close()
	}
}

// misfeed breaks the frame socket's protocol once, then waits for the encoder to leave.
func (c *Capturer) misfeed(sink *framesource.Sink) error {
	p, err := newPicture(0, 64, 64, true)
	if err != nil {
		return err
	}
	defer p.close()
	switch {
	case c.b.Garbage:
		p.Layout.Width = 1 << 30
		err = sink.Register(p.Buffer)
	case c.b.WrongFD:
		r, w, pipeErr := os.Pipe()
		if pipeErr != nil {
			return pipeErr
		}
		defer r.Close()
		defer w.Close()
		b := p.Buffer
		b.File = r
		err = sink.Register(b)
	case c.b.ManyFDs:
		for id := range uint32(framesource.MaxBuffers + 1) {
			b := p.Buffer
			b.ID = id
			if err = sink.Register(b); err != nil {
				break
			}
		}
	}
	if err != nil {
		return err
	}
	select {
	case <-c.done:
	case <-sink.Done():
	}
	return nil
}
