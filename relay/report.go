package relay

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/wavry/fleet/relay/relaywire"
)

// totals sums the counters of all workers.
type totals struct {
	packetsIn, packetsOut, bytesIn, bytesOut uint64
	polling                                  time.Duration
	drops                                    [numDrops]uint64
}

func (r *Relay) totals() (t totals) {
	for i := range t.drops {
		t.drops[i] = r.engine.counts.drops[i].Load()
	}
	p := r.path.Load()
	if p == nil {
		return t
	}
	for _, s := range (*p).stats() {
		t.packetsIn += s.packetsIn.Load()
		t.packetsOut += s.packetsOut.Load()
		t.bytesIn += s.bytesIn.Load()
		t.bytesOut += s.bytesOut.Load()
		t.polling += time.Duration(s.polling.Load())
		for i := range t.drops {
			t.drops[i] += s.drops[i].Load()
		}
	}
	t.drops[dropReceiveBuffer] += (*p).kernelDrops()
	return t
}

// meter turns counters into rates.
type meter struct {
	mu             sync.Mutex
	at             int64
	packets, bytes uint64
	pps, bps       float64
}

func newMeter(now int64) *meter { return &meter{at: now} }

func (m *meter) update(t totals, now int64) (pps, bps float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if seconds := float64(now-m.at) / 1e9; seconds > 0 {
		m.pps = float64(t.packetsOut-m.packets) / seconds
		m.bps = float64(t.bytesOut-m.bytes) * 8 / seconds
	}
	m.at, m.packets, m.bytes = now, t.packetsOut, t.bytesOut
	return m.pps, m.bps
}

// report measures the load, decides whether the bandwidth is used up, and tells Control.
func (r *Relay) report(ctx context.Context) error {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		load := r.measure()
		r.judge(load.BitsPerSecond)
		err := r.cfg.Control.Report(ctx, load)
		if failed := err != nil && ctx.Err() == nil; failed != failing {
			failing = failed
			r.log.Warn("load reports", "failing", failing, "err", err)
		}
	}
}

// fullAbove and freeBelow are shares of CapacityBits; the gap keeps /ready from flapping.
const (
	fullAbove = 0.95
	freeBelow = 0.85
)

func (r *Relay) judge(bps float64) {
	limit := float64(r.cfg.CapacityBits)
	switch was := r.full.Load(); {
	case limit == 0:
	case !was && bps > fullAbove*limit:
		r.full.Store(true)
		r.log.Info("relay state", "full", true, "bits_per_second", bps)
	case was && bps < freeBelow*limit:
		r.full.Store(false)
		r.log.Info("relay state", "full", false, "bits_per_second", bps)
	}
}

func (r *Relay) measure() Load {
	t := r.totals()
	pps, bps := r.meter.update(t, r.engine.clock.now())
	pol, why := r.engine.policy.Load(), r.notReady()
	good, bad := r.engine.results()
	l := Load{
		RelayID: r.cfg.ID, Region: r.cfg.Region, Version: r.cfg.Version, Time: r.cfg.Now(), Circuits: r.Circuits(), MaxCircuits: r.cfg.MaxCircuits,
		BitsPerSecond: bps, PacketsPerSecond: pps, CapacityBits: r.cfg.CapacityBits, Pinned: r.engine.counts.viewersPinned.Load(),
		Bound: r.engine.counts.bound.Load(), Succeeded: good, Failed: bad, Drops: map[string]uint64{}, Rejects: map[string]uint64{}, Ready: why == nil,
		Draining: r.engine.draining.Load(), KeyIDs: pol.keyIDs(), Leaving: r.local.Load(), Overloaded: errors.Is(why, ErrFull),
		CPU: r.usage.share(t.polling),
	}
	if why != nil {
		l.Cause = why.Error()
	}
	for d := dropOffer + 1; d < numDrops; d++ {
		l.Drops[d.String()] = t.drops[d]
	}
	for _, reason := range relaywire.Reasons {
		l.Rejects[reason.String()] = r.engine.counts.rejects[reason].Load()
	}
	return l
}
