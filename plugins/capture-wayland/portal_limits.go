package main

import "time"

const (
	// goodbyeTimeout bounds what Close says to a compositor that may hang.
	goodbyeTimeout = 500 * time.Millisecond
	// streamTimeout is how long a compositor may take from Start to naming its PipeWire node; the slowest seen took 0.4 s.
	streamTimeout = 5 * time.Second
	// firstFrame is how long the first picture of a stream may take while its source is being changed; 100 ms were seen.
	firstFrame = 1500 * time.Millisecond
	// nudgeEvery is the rate at which a trial changes the picture: twice per frame of a 30 fps compositor.
	nudgeEvery = 16 * time.Millisecond
	// pullTimeout is how long the trial waits for one more picture before it looks at its deadline.
	pullTimeout = 100 * time.Millisecond
	// maxShotRate of polled screenshots: each takes KWin 35 ms without a GPU, and the desktop wants to be drawn too.
	maxShotRate = 15
	// shotTimeout is when a screenshot counts as not coming; shotPoll is how often its progress is looked at.
	shotTimeout = 2 * time.Second
	shotPoll    = time.Millisecond
)
