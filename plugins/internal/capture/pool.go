package capture

import (
	"errors"
	"sync/atomic"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/framesource"
)

// Buffers is how many buffers a pool should have: one being filled, one on its way, one being encoded, one of slack. Twice as many
// fit into framesource.MaxBuffers.
const Buffers = 4

// Pool owns the frame buffers of one capture and lends them to the connected encoder. It belongs to one goroutine, except for
// Counters. A buffer is free, taken (by us, to be filled) or lent (to the encoder, until it releases it).
type Pool struct {
	buffers []*Buffer
	nextID  uint32
	sink    *framesource.Sink // nil: no encoder
	next    uint64            // sequence of the next picture
	newest  *Buffer           // holds the newest picture; nil: none does
	starved bool              // the last Take found no buffer

	frames, dropped atomic.Uint64
	last            atomic.Int64
}

// Buffer is memory of a Pool.
type Buffer struct {
	framesource.Buffer
	// Data is the mapped memory; nil for memory that is never mapped here.
	Data []byte
	// Gone releases the memory and what hangs on it; called once, when the pool is done with the buffer.
	Gone func() error

	state      bufferState
	registered bool // at the present sink
}

type bufferState uint8

const (
	free bufferState = iota
	taken
	lent
)

// NewSharedBuffer makes a buffer of sealed shared memory for layout, whose size is the first plane's.
func NewSharedBuffer(layout media.Layout) (*Buffer, error) {
	size := layout.Planes[0].Offset + layout.Planes[0].Stride*layout.Height
	m, err := NewMemory("wavry-frame", size)
	if err != nil {
		return nil, err
	}
	return &Buffer{
		Buffer: framesource.Buffer{Memory: framesource.MemoryShared, Size: int64(size), Layout: layout, File: m.File},
		Data:   m.Data, Gone: m.Close,
	}, nil
}

// Replace gives the pool new buffers and lets the old ones go, also those that are lent: the encoder holds descriptors of its own.
func (p *Pool) Replace(buffers []*Buffer) error {
	err := p.dropAll()
	for _, b := range buffers {
		p.nextID++ // ids are never reused, so that a late release cannot hit a new buffer
		b.ID = p.nextID
	}
	p.buffers = buffers
	return err
}

func (p *Pool) dropAll() error {
	var errs []error
	for _, b := range p.buffers {
		if b.registered && p.sink != nil {
			_ = p.sink.Forget(b.ID) // fails only when the encoder is gone, and then it has forgotten
		}
		errs = append(errs, b.Gone())
	}
	p.buffers, p.newest = nil, nil
	return errors.Join(errs...)
}

// Attach makes sink the encoder from now on. An earlier one is disconnected and what it held is free.
func (p *Pool) Attach(sink *framesource.Sink) {
	p.Detach()
	p.sink = sink
}

// Detach disconnects the encoder, if there is one.
func (p *Pool) Detach() {
	if p.sink == nil {
		return
	}
	_ = p.sink.Close() // it is being thrown away
	p.sink = nil
	for _, b := range p.buffers {
		b.registered = false
		if b.state == lent {
			b.state = free
		}
	}
}

// Attached reports whether there is an encoder.
func (p *Pool) Attached() bool { return p.sink != nil }

// Gone is closed when the encoder left; nil (blocks for ever) without one.
func (p *Pool) Gone() <-chan struct{} {
	if p.sink == nil {
		return nil
	}
	return p.sink.Done()
}

// Ready yields when Take, which found no free buffer the last time, should be tried again; nil (blocks for ever) otherwise.
func (p *Pool) Ready() <-chan struct{} {
	if p.sink == nil || !p.starved {
		return nil
	}
	return p.sink.Ready()
}

// release takes a buffer back from the encoder. Ids of buffers that are gone are ignored.
func (p *Pool) release(id uint32) {
	for _, b := range p.buffers {
		if b.ID == id && b.state == lent {
			b.state = free
		}
	}
}

// Take returns a free buffer to fill, or nil when the encoder holds them all. The one with the newest picture is the last to be
// given, so that Repeat has it.
func (p *Pool) Take() *Buffer {
	p.collect()
	var found *Buffer
	for _, b := range p.buffers {
		if b.state == free && (found == nil || found == p.newest) {
			found = b
		}
	}
	if p.starved = found == nil; p.starved {
		return nil
	}
	if found == p.newest {
		p.newest = nil
	}
	found.state = taken
	return found
}

func (p *Pool) collect() {
	if p.sink != nil {
		p.sink.Collect(p.release)
	}
}

// Return gives back a taken buffer without sending it.
func (p *Pool) Return(b *Buffer) { b.state = free }

// Send lends a taken and filled buffer to the encoder. Without an encoder, or when it left meanwhile, the picture is dropped.
func (p *Pool) Send(b *Buffer, at media.Time, repeat bool) {
	p.last.Store(int64(at))
	if err := p.send(b, at, repeat); err != nil {
		// Its Done says so too and the loop detaches it; only the picture must be accounted for here.
		p.Drop()
		b.state = free
		return
	}
	b.state, p.newest = lent, b
	p.next++
	p.frames.Add(1)
}

// Repeat sends the newest picture again, as keep-alive. It does nothing while the encoder still has it.
func (p *Pool) Repeat(now media.Time) {
	p.collect()
	if p.newest != nil && p.newest.state == free {
		p.Send(p.newest, now, true)
	}
}

func (p *Pool) send(b *Buffer, at media.Time, repeat bool) error {
	if p.sink == nil {
		return ErrNoEncoder
	}
	if !b.registered {
		if err := p.sink.Register(b.Buffer); err != nil {
			return err
		}
		b.registered = true
	}
	return p.sink.Send(framesource.Frame{Buffer: b.ID, Sequence: p.next, CaptureTime: at, Repeat: repeat})
}

// Sequence is the number that the next picture gets.
func (p *Pool) Sequence() uint64 { return p.next }

// Drop counts a picture that was not sent; its sequence number is skipped.
func (p *Pool) Drop() {
	p.next++
	p.dropped.Add(1)
}

// Counters may be called from any goroutine.
func (p *Pool) Counters() Counters {
	return Counters{Frames: p.frames.Load(), Dropped: p.dropped.Load(), LastFrame: media.Time(p.last.Load())}
}

// Close disconnects the encoder and releases all memory.
func (p *Pool) Close() error {
	p.Detach()
	return p.dropAll()
}
