package capture

import "time"

const (
	// heartbeatEvery is half of what the contract allows, so that one late tick is no alarm.
	heartbeatEvery = 250 * time.Millisecond
	// maxEvents queued between a Source and Watch. When full the oldest is dropped: the newest size or cursor is what counts.
	maxEvents = 64
	// openTimeout bounds the opening of one method: a compositor that needs longer is wedged, and the next method should be tried.
	openTimeout = 10 * time.Second
	// lookTimeout bounds one method's probe without frames, probeTimeout the one with frames.
	lookTimeout  = 3 * time.Second
	probeTimeout = 10 * time.Second
	// stopTimeout bounds the wait for a Source's Run to return before its Close is called all the same.
	stopTimeout = 2 * time.Second
	// minScale and maxScale are what browsers zoom to, times what screens have.
	minScale = 0.25
	maxScale = 16.0
	// defaultFramerate is used by a Start that leaves it open.
	defaultFramerate = 60
	// maxFramerate is above any display's; it only guards against nonsense.
	maxFramerate = 1000
)
