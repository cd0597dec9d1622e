//go:build unix

package relay

import (
	"runtime"
	"sync"
	"syscall"
	"time"
)

// cpuMeter tells which share of its cores the process has used since it was asked last. Polling does not count: it gives way to work.
type cpuMeter struct {
	mu   sync.Mutex
	at   time.Time
	used time.Duration
}

// share is told how long workers have polled since the start.
func (c *cpuMeter) share(polling time.Duration) float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	now, used := time.Now(), time.Duration(u.Utime.Nano()+u.Stime.Nano())-polling
	share := 0.0
	if !c.at.IsZero() && now.After(c.at) {
		share = float64(used-c.used) / float64(now.Sub(c.at)) / float64(runtime.NumCPU())
	}
	c.at, c.used = now, used
	return min(1, max(0, share))
}
