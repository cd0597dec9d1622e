//go:build unix

package relay

import (
	"runtime"
	"sync"
	"syscall"
	"time"
)

// cpuMeter tells which share of its cores the process has used since it was asked last.
type cpuMeter struct {
	mu   sync.Mutex
	at   time.Time
	used time.Duration
}

func (c *cpuMeter) share() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	now, used := time.Now(), time.Duration(u.Utime.Nano()+u.Stime.Nano())
	share := 0.0
	if !c.at.IsZero() && now.After(c.at) {
		share = float64(used-c.used) / float64(now.Sub(c.at)) / float64(runtime.NumCPU())
	}
	c.at, c.used = now, used
	return min(1, max(0, share))
}
