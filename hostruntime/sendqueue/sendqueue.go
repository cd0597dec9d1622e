// Package sendqueue decides, for one viewer, which access units are sent and which are skipped, so that no queue ever builds.
//
// A unit is outstanding from Offer until Done: its bytes wait for the congestion window. When the oldest waits too long, the next
// unit is skipped; after a skip the delta units that follow cannot be decoded, so they are skipped too, until the outstanding ones
// are gone and a keyframe comes. A keyframe may wait longer, with the deltas behind it: skipping those would only buy another
// keyframe. It is pure: time is an argument.
package sendqueue

import "time"

const (
	// maxWait is how long the oldest delta unit may be outstanding before the path counts as behind: three frames at 60 Hz.
	maxWait = 50 * time.Millisecond
	// maxKeyframeWait is the same for a keyframe, which is about ten times the size and drains at 1/0.8 of the bitrate's pace.
	maxKeyframeWait = 500 * time.Millisecond
	// maxOutstanding bounds memory: half a second at 60 Hz behind a keyframe. Above it the path is behind, whatever the ages.
	maxOutstanding = 32
)

// Verdict is what to do with a unit.
type Verdict uint8

// The closed set of verdicts. The Skip reasons are metric labels.
const (
	Send Verdict = iota
	SkipBehind
	SkipUndecodable
)

// String is the metric label.
func (v Verdict) String() string { return [...]string{"send", "behind", "undecodable"}[v] }

// Queue is the state for one viewer. The zero value waits for a keyframe. It is not safe for concurrent use.
type Queue struct {
	synced  bool          // the viewer can decode the next delta unit
	cleared time.Duration // when the last keyframe left: units behind it count their wait from there
	sent    []unit        // outstanding, oldest first
}

type unit struct {
	at       time.Duration
	keyframe bool
}

// Offer decides on the next unit. wantKeyframe asks the caller to get one from the encoder: the path is free again, or was never
// started.
func (q *Queue) Offer(now time.Duration, keyframe bool) (v Verdict, wantKeyframe bool) {
	if q.behind(now) {
		q.synced = false
		return SkipBehind, false
	}
	if !q.synced && !keyframe {
		return SkipUndecodable, len(q.sent) == 0
	}
	q.synced = true
	q.sent = append(q.sent, unit{at: now, keyframe: keyframe})
	return Send, false
}

func (q *Queue) behind(now time.Duration) bool {
	if len(q.sent) == 0 {
		return false
	}
	head := q.sent[0]
	if head.keyframe {
		return now-head.at > maxKeyframeWait || len(q.sent) >= maxOutstanding
	}
	return now-max(head.at, q.cleared) > maxWait || len(q.sent) >= maxOutstanding
}

// Done says that an outstanding unit left, or was lost with its stream. Units leave about in order; the oldest is taken.
func (q *Queue) Done(now time.Duration, ok bool) {
	if len(q.sent) > 0 {
		if q.sent[0].keyframe {
			q.cleared = now
		}
		q.sent = append(q.sent[:0], q.sent[1:]...)
	}
	if !ok {
		q.synced = false
	}
}

// Desync makes the next unit sent a keyframe: the viewer lost one.
func (q *Queue) Desync() { q.synced = false }

// Withdraw takes the unit offered last back: it could not be sent after all.
func (q *Queue) Withdraw() {
	if len(q.sent) > 0 {
		q.sent = q.sent[:len(q.sent)-1]
	}
	q.synced = false
}
