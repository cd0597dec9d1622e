// Package keyframe limits how often an encoder is asked for keyframes: any number of viewers and reasons ask, one request per
// round trip goes out. It is pure: time is an argument.
package keyframe

import "time"

// MinInterval between requests, for round trips too short to matter: an encoder needs some frames to pay for a keyframe.
const MinInterval = 100 * time.Millisecond

// maxInterval caps the wait on very slow paths: a person stares at a frozen picture meanwhile.
const maxInterval = time.Second

// Limiter is the state of one encoder. The zero value allows the first request. It is not safe for concurrent use.
type Limiter struct {
	asked   bool
	last    time.Duration
	pending bool
}

// Ask says whether to ask the encoder now. A request that comes too early is remembered and Due later.
func (l *Limiter) Ask(now, rtt time.Duration) bool {
	l.pending = true
	return l.Due(now, rtt)
}

// Due says whether a remembered request should go out now; call it on every tick.
func (l *Limiter) Due(now, rtt time.Duration) bool {
	if !l.pending || l.asked && now-l.last < min(max(rtt, MinInterval), maxInterval) {
		return false
	}
	l.pending, l.asked, l.last = false, true, now
	return true
}

// Seen forgets what is pending: a keyframe has just been produced.
func (l *Limiter) Seen() { l.pending = false }
