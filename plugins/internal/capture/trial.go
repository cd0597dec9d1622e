package capture

import (
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"time"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
)

// Trial collects the pictures of a functional probe and gives the verdict.
type Trial struct {
	looker  *Looker
	seed    maphash.Seed
	hashes  map[uint64]bool
	delays  []time.Duration
	colours int // pictures that were not black
}

// NewTrial returns an empty Trial.
func NewTrial() *Trial {
	return &Trial{looker: NewLooker(), seed: maphash.MakeSeed(), hashes: map[uint64]bool{}}
}

// Add judges one picture that took delay from being asked for, or from its capture stamp, to being here.
func (t *Trial) Add(pix []byte, layout media.Layout, delay time.Duration) {
	t.hashes[maphash.Bytes(t.seed, pix)] = true // all of it: a pointer that moved is a new picture
	t.delays = append(t.delays, delay)
	if !t.looker.Look(pix, layout).Black {
		t.colours++
	}
}

// Frames is the number of pictures so far.
func (t *Trial) Frames() int { return len(t.delays) }

// Fill writes the numbers into item, and the verdict that pictures came and were not all black. Whether they must be distinct is the
// caller's to judge: an idle desktop's pictures are rightly all the same.
func (t *Trial) Fill(item *pluginpb.ProbeItem) {
	item.Frames, item.Distinct = uint32(len(t.delays)), uint32(len(t.hashes))
	item.LatencyP50Ms, item.LatencyP95Ms = Percentile(t.delays, 50), Percentile(t.delays, 95)
	switch {
	case len(t.delays) == 0:
		item.Usable, item.Reason = false, "no picture came"
	case t.colours == 0:
		item.Usable, item.Reason = false, fmt.Sprintf("all %d pictures are black", len(t.delays))
		item.Remedy = "check that the output is powered on and shows a desktop"
	default:
		item.Usable = true
	}
}

// Percentile is the p-th percentile of d in milliseconds by nearest rank; 0 for none. It does not change d.
func Percentile(d []time.Duration, p float64) float64 {
	if len(d) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(d))
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return float64(sorted[max(rank, 1)-1]) / float64(time.Millisecond)
}

// Unusable is a ProbeItem that says why not.
func Unusable(reason, remedy string) *pluginpb.ProbeItem {
	return &pluginpb.ProbeItem{Reason: reason, Remedy: remedy}
}
