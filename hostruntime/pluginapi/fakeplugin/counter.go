package fakeplugin

import "sync/atomic"

// counter counts frames from any goroutine.
type counter struct{ n atomic.Int64 }

func (c *counter) add() int { return int(c.n.Add(1)) }
func (c *counter) get() int { return int(c.n.Load()) }
