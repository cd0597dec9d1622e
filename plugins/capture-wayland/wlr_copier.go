package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/plugins/internal/capture"
	"github.com/wavry/fleet/plugins/internal/wayland"
)

// copier states: what the next step waits for.
type wlrState uint8

const (
	stateIdle      wlrState = iota // no frame; begin one when there is an encoder and its time has come
	stateBegun                     // waiting for frameDescribed
	stateDescribed                 // waiting for a free buffer
	stateCopying                   // waiting for frameReady
)

// wlrCopier takes one picture after the other. It belongs to one goroutine, which calls step after everything that happened and
// handle for every event of the frame.
type wlrCopier struct {
	desktop *wlrDesktop
	options wlrOptions
	pool    *capture.Pool
	memory  wlrMemory
	// memoryReason says which memory is used and why.
	memoryReason string
	pacer        capture.Pacer
	frame        *wlrFrame

	state    wlrState
	offer    wlrOffer
	picture  wlrPicture // what the pool's buffers hold
	size     capture.Size
	taken    *capture.Buffer // being written by the compositor
	wants    bool            // a picture is wanted even without damage
	starved  bool            // this picture was already counted as dropped
	failures int
	retryAt  media.Time
	proxies  map[uint32]*wayland.Buffer // by buffer id
	quiet    time.Duration              // after which the newest picture is repeated; 0: never
	sent     media.Time                 // of the last picture, repeated or not
	flipRow  []byte
}

// openWlrCopier returns a copier that has taken one picture.
func openWlrCopier(ctx context.Context, d *wlrDesktop, o wlrOptions) (*wlrCopier, error) {
	candidates, why, err := memories(d, o.memory)
	if err != nil {
		return nil, err
	}
	for i, m := range candidates {
		c := newWlrCopier(d, o, m)
		c.memoryReason = why
		_, _, err = c.shoot(ctx)
		if err == nil {
			return c, closeAll(candidates[i+1:])
		}
		err = errors.Join(err, c.close())
		why = fmt.Sprintf("pictures in shared memory because of DMA-BUF: %v", err)
	}
	return nil, err
}

func closeAll(unused []wlrMemory) (err error) {
	for _, m := range unused {
		err = errors.Join(err, m.close())
	}
	return err
}

func newWlrCopier(d *wlrDesktop, o wlrOptions, m wlrMemory) *wlrCopier {
	c := &wlrCopier{
		desktop: d, options: o, memory: m, pool: &capture.Pool{}, frame: newWlrFrame(), wants: true, proxies: map[uint32]*wayland.Buffer{},
	}
	c.pacer.SetFramerate(o.fps)
	if o.keepAlive > 0 {
		c.quiet = time.Duration(float64(time.Second) / o.keepAlive)
	}
	return c
}

// restart gives up the picture under way and wants the next one at once: a new encoder must not wait for damage.
func (c *wlrCopier) restart() {
	if c.state != stateIdle {
		c.frame.abandon()
	}
	if c.taken != nil {
		c.pool.Return(c.taken)
		c.taken = nil
	}
	c.state, c.wants = stateIdle, true
}

// step does what can be done now. A positive wait asks to be called again after it.
func (c *wlrCopier) step(now media.Time) (wait time.Duration) {
	switch {
	case !c.pool.Attached():
		return 0
	case c.state == stateIdle:
		if wait = max(c.pacer.Wait(now), c.retryAt.Sub(now)); wait <= 0 {
			c.frame.begin(c.desktop, c.options.embedCursor)
			c.state = stateBegun
		}
	case c.state == stateDescribed:
		c.copy()
	}
	return sooner(wait, c.keepAlive(now))
}

// keepAlive repeats the newest picture when its time has come, and returns when to look again.
func (c *wlrCopier) keepAlive(now media.Time) (wait time.Duration) {
	if c.quiet == 0 {
		return 0
	}
	if wait = c.sent.Add(c.quiet).Sub(now); wait <= 0 {
		c.pool.Repeat(now)
		c.sent, wait = now, c.quiet
	}
	return wait
}

// sooner is the lesser of two waits, of which one that is not positive means none.
func sooner(a, b time.Duration) time.Duration {
	if a <= 0 || (b > 0 && b < a) {
		return b
	}
	return a
}

// copy names a buffer for the described frame, if one is free.
func (c *wlrCopier) copy() {
	b := c.pool.Take()
	if b == nil {
		if !c.starved {
			c.pool.Drop()
			c.starved = true
		}
		return
	}
	c.taken, c.starved, c.state = b, false, stateCopying
	if c.wants {
		c.frame.proxy.Copy(c.proxies[b.ID])
	} else {
		c.frame.proxy.CopyWithDamage(c.proxies[b.ID])
	}
}

// handle takes an event of the frame. Its error ends the capture.
func (c *wlrCopier) handle(e wlrFrameEvent) error {
	if e.frame != c.frame.proxy || c.state == stateIdle {
		return nil // of a frame that was given up
	}
	switch e.step {
	case frameDescribed:
		c.state, c.offer = stateDescribed, e.offer
		return c.fit()
	case frameReady:
		c.ready(e)
		return nil
	}
	return c.failed()
}

func (c *wlrCopier) ready(e wlrFrameEvent) {
	if c.taken == nil {
		return // never asked for: a broken compositor
	}
	now := media.Now()
	if e.flags&flagYInvert != 0 && c.taken.Data != nil {
		c.flipRow = flip(c.taken.Data, int(c.picture.stride), int(c.picture.height), c.flipRow)
	}
	c.pool.Send(c.taken, plausible(e.time, now), false)
	c.pacer.Taken(now)
	c.sent = now
	c.frame.finish()
	c.taken, c.state, c.wants, c.failures = nil, stateIdle, false, 0
}

// plausible is the compositor's stamp, unless it is not of our clock.
func plausible(stamp, now media.Time) media.Time {
	if d := now.Sub(stamp); d < 0 || d > time.Second {
		return now
	}
	return stamp
}

func (c *wlrCopier) failed() error {
	c.failures++
	if c.failures > maxFailures {
		return &pluginapi.UnavailableError{
			Reason: fmt.Sprintf("compositor failed to copy output %s %d times in a row", c.desktop.output.Name(), c.failures),
			Remedy: "the output was probably switched off or removed: switch it on (sway: output * power on), or name another with the option output",
		}
	}
	c.restart()
	c.retryAt = media.Now().Add(failurePause)
	return nil
}

// fit makes the pool hold buffers of what the compositor offers.
func (c *wlrCopier) fit() error {
	p := c.memory.pick(c.offer)
	if p == c.picture {
		return nil
	}
	if p.width == 0 || p.height == 0 {
		return errors.New("compositor offers no picture in the memory that was chosen")
	}
	for _, proxy := range c.proxies {
		proxy.Destroy()
	}
	clear(c.proxies)
	if err := c.allocate(p); err != nil {
		return err
	}
	c.picture, c.size, c.wants = p, capture.Size{Width: int(p.width), Height: int(p.height)}, true
	return nil
}

func (c *wlrCopier) allocate(p wlrPicture) error {
	var buffers []*capture.Buffer
	var proxies []*wayland.Buffer
	for range capture.Buffers {
		b, proxy, err := c.memory.allocate(p)
		if err != nil {
			return errors.Join(fmt.Errorf("allocate frame buffers of %dx%d: %w", p.width, p.height, err), c.pool.Replace(buffers))
		}
		buffers, proxies = append(buffers, b), append(proxies, proxy)
	}
	err := c.pool.Replace(buffers)
	for i, b := range buffers {
		c.proxies[b.ID] = proxies[i]
	}
	return err
}

// shoot takes one picture now, damaged or not, and its stamp. The pixels are valid until the next call.
func (c *wlrCopier) shoot(ctx context.Context) (*capture.Buffer, media.Time, error) {
	c.frame.begin(c.desktop, c.options.embedCursor)
	c.state, c.wants = stateBegun, true
	for {
		if err := c.desktop.conn.Flush(); err != nil {
			return nil, 0, err
		}
		select {
		case e := <-c.frame.events:
			if b, err := c.shot(e); b != nil || err != nil {
				return b, plausible(e.time, media.Now()), err
			}
		case <-c.desktop.conn.Done():
			return nil, 0, c.desktop.conn.Err()
		case <-ctx.Done():
			return nil, 0, fmt.Errorf("wait for a picture: %w", ctx.Err())
		}
	}
}

// shot takes an event of shoot; it returns the buffer when the picture is there.
func (c *wlrCopier) shot(e wlrFrameEvent) (*capture.Buffer, error) {
	if e.step == frameFailed {
		return nil, fmt.Errorf("compositor failed to copy output %s", c.desktop.output.Name())
	}
	if e.step == frameReady {
		b := c.taken
		c.frame.finish()
		c.pool.Return(b)
		c.taken, c.state = nil, stateIdle
		return b, nil
	}
	if err := c.handle(e); err != nil {
		return nil, err
	}
	c.copy()
	return nil, nil
}

func (c *wlrCopier) close() error { return errors.Join(c.pool.Close(), c.memory.close()) }

// flip turns a picture upside down in place: some renderers deliver it bottom up and no format of ours can say so. row is scratch.
func flip(data []byte, stride, height int, row []byte) []byte {
	if len(row) < stride {
		row = make([]byte, stride)
	}
	for top, bottom := 0, height-1; top < bottom; top, bottom = top+1, bottom-1 {
		a, b := data[top*stride:(top+1)*stride], data[bottom*stride:(bottom+1)*stride]
		copy(row, a)
		copy(a, b)
		copy(b, row)
	}
	return row
}
