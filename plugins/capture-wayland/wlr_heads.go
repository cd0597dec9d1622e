package main

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/wavry/fleet/plugins/internal/capture"
	"github.com/wavry/fleet/plugins/internal/wayland"
)

// wlrHeads are the outputs as wlr-output-management sees them. A change needs the serial of the newest state.
type wlrHeads struct {
	conn    *wayland.Conn
	manager wayland.OutputManager

	mu     sync.Mutex // guards the following and the fields of heads
	serial uint32
	heads  []*wlrHead
	news   chan struct{} // closed and replaced with every new serial
}

type wlrHead struct {
	head    *wayland.OutputHead
	name    string
	enabled bool
}

// bindHeads returns nil when the compositor has no output management.
func bindHeads(c *wayland.Conn) *wlrHeads {
	h := &wlrHeads{conn: c, news: make(chan struct{})}
	h.manager.On.Head = h.add
	h.manager.On.Done = h.done
	if c.Bind(&h.manager, 1) != nil {
		return nil
	}
	return h
}

func (h *wlrHeads) add(head *wayland.OutputHead) {
	w := &wlrHead{}
	head.On.Name = func(name string) { h.locked(func() { w.name = name }) }
	head.On.Enabled = func(on int32) { h.locked(func() { w.enabled = on != 0 }) }
	head.On.Finished = func() { h.locked(func() { h.remove(w) }) }
	w.head = head
	h.locked(func() { h.heads = append(h.heads, w) })
}

func (h *wlrHeads) locked(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
}

func (h *wlrHeads) remove(w *wlrHead) {
	for i := range h.heads {
		if h.heads[i] == w {
			h.heads = append(h.heads[:i:i], h.heads[i+1:]...)
			return
		}
	}
}

func (h *wlrHeads) done(serial uint32) {
	h.locked(func() {
		h.serial = serial
		close(h.news)
		h.news = make(chan struct{})
	})
}

// resizable reports whether the output is one that nobody looks at: a real monitor's mode is its owner's.
func resizable(name string) bool { return strings.HasPrefix(name, "HEADLESS-") }

// verdicts of a configuration.
const (
	modeSet = iota
	modeRefused
	modeOutdated // the outputs changed meanwhile: try again with the new serial
)

// resizeTries is how often an outdated configuration is built anew.
const resizeTries = 3

// resize gives the named output a custom mode, and a scale unless that is 0.
func (h *wlrHeads) resize(ctx context.Context, name string, size capture.Size, scale float64) error {
	for range resizeTries {
		verdict, err := h.tryResize(ctx, name, size, scale)
		switch {
		case err != nil:
			return err
		case verdict == modeSet:
			return nil
		case verdict == modeRefused:
			return fmt.Errorf("compositor refuses %v on output %s", size, name)
		}
	}
	return fmt.Errorf("outputs keep changing while %s is being resized", name)
}

func (h *wlrHeads) tryResize(ctx context.Context, name string, size capture.Size, scale float64) (int, error) {
	verdict := make(chan int, 1)
	var c wayland.OutputConfiguration
	c.On.Succeeded = func() { verdict <- modeSet }
	c.On.Failed = func() { verdict <- modeRefused }
	c.On.Cancelled = func() { verdict <- modeOutdated }
	news := h.apply(&c, name, size, scale)
	defer c.Destroy()
	if err := h.conn.Flush(); err != nil {
		return 0, err
	}
	select {
	case v := <-verdict:
		if v == modeOutdated {
			wait(ctx, news)
		}
		return v, nil
	case <-h.conn.Done():
		return 0, h.conn.Err()
	case <-ctx.Done():
		return 0, fmt.Errorf("resize output %s: %w", name, ctx.Err())
	}
}

func wait(ctx context.Context, c <-chan struct{}) {
	select {
	case <-c:
	case <-ctx.Done():
	}
}

// apply asks for all outputs as they are, but the named one in size. news is closed when the state it rests on is old.
func (h *wlrHeads) apply(c *wayland.OutputConfiguration, name string, size capture.Size, scale float64) (news <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.manager.CreateConfiguration(c, h.serial)
	for _, w := range h.heads {
		if !w.enabled && w.name != name {
			c.DisableHead(w.head)
			continue
		}
		var head wayland.OutputConfigurationHead
		c.EnableHead(&head, w.head)
		if w.name == name {
			head.SetCustomMode(int32(size.Width), int32(size.Height), 0) // the compositor's own refresh rate
			if scale > 0 {
				head.SetScale(scale)
			}
		}
	}
	c.Apply()
	return h.news
}
