package sendqueue

import (
	"testing"
	"time"
)

const ms = time.Millisecond

// The first unit a viewer gets is a keyframe, and one is asked for.
func TestStartsWithKeyframe(t *testing.T) {
	var q Queue
	if v, want := q.Offer(0, false); v != SkipUndecodable || !want {
		t.Fatalf("delta unit first: %v, want keyframe %v", v, want)
	}
	if v, _ := q.Offer(1*ms, true); v != Send {
		t.Fatalf("keyframe first: %v", v)
	}
	q.Done(0, true)
	if v, _ := q.Offer(2*ms, false); v != Send {
		t.Fatalf("delta unit after keyframe: %v", v)
	}
}

// A path that is behind gets nothing, not even the keyframe that follows, until it is free; then a keyframe is asked for.
func TestSkipsWhileBehind(t *testing.T) {
	var q Queue
	q.Offer(0, true)
	q.Done(0, true)
	q.Offer(1*ms, false)
	late := 2*ms + maxWait
	if v, want := q.Offer(late, true); v != SkipBehind || want {
		t.Fatalf("path behind: %v, want keyframe %v", v, want)
	}
	if v, _ := q.Offer(late, false); v != SkipBehind {
		t.Fatalf("path still behind: %v", v)
	}
	q.Done(late, true)
	if v, want := q.Offer(late, false); v != SkipUndecodable || !want {
		t.Fatalf("free path: %v, want keyframe %v", v, want)
	}
	if v, _ := q.Offer(late, true); v != Send {
		t.Fatalf("keyframe on a free path: %v", v)
	}
}

// The oldest unit's wait decides, and a keyframe may wait longer.
func TestWaitLimits(t *testing.T) {
	for _, c := range []struct {
		name     string
		keyframe bool
		age      time.Duration
		want     Verdict
	}{
		{"delta below", false, maxWait - 1, Send},
		{"delta at", false, maxWait, Send},
		{"delta above", false, maxWait + 1, SkipBehind},
		{"keyframe below", true, maxKeyframeWait - 1, Send},
		{"keyframe at", true, maxKeyframeWait, Send},
		{"keyframe above", true, maxKeyframeWait + 1, SkipBehind},
	} {
		q := Queue{synced: true}
		q.Offer(0, c.keyframe)
		if v, _ := q.Offer(c.age, false); v != c.want {
			t.Errorf("%s: %v, want %v", c.name, v, c.want)
		}
	}
}

// Deltas that waited behind a keyframe get a fresh wait when it has left: a slow keyframe must not cause the next keyframe.
func TestKeyframeDoesNotCauseKeyframes(t *testing.T) {
	var q Queue
	q.Offer(0, true)
	left := 300 * ms
	for at := 16 * ms; at < left; at += 16 * ms {
		if v, _ := q.Offer(at, false); v != Send {
			t.Fatalf("delta at %v behind a keyframe: %v", at, v)
		}
	}
	q.Done(left, true)
	if v, _ := q.Offer(left+maxWait, false); v != Send {
		t.Fatalf("delta right after the keyframe left: %v", v)
	}
	if v, _ := q.Offer(left+maxWait+1, false); v != SkipBehind {
		t.Fatalf("delta when the rest did not follow: %v", v)
	}
}

// The queue is bounded whatever the ages.
func TestOutstandingLimit(t *testing.T) {
	var q Queue
	for i := range maxOutstanding {
		if v, _ := q.Offer(0, i == 0); v != Send {
			t.Fatalf("unit %d: %v", i, v)
		}
	}
	if v, _ := q.Offer(0, false); v != SkipBehind {
		t.Fatalf("unit above the limit: %v", v)
	}
}

// A lost unit makes the deltas behind it useless.
func TestLossDesyncs(t *testing.T) {
	var q Queue
	q.Offer(0, true)
	q.Done(0, false)
	if v, want := q.Offer(ms, false); v != SkipUndecodable || !want {
		t.Fatalf("after a loss: %v, want keyframe %v", v, want)
	}
}

func TestOfferDoesNotAllocate(t *testing.T) {
	var q Queue
	q.Offer(0, true)
	q.Done(0, true)
	if n := testing.AllocsPerRun(100, func() { q.Offer(0, false); q.Done(0, true) }); n != 0 {
		t.Fatalf("%v allocations per unit", n)
	}
}
