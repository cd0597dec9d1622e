package encode

import "time"

// Limits and times of an encoder run.
const (
	// MinBitrate and MaxBitrate bound what Start and SetBitrate take, in bits per second. Below the first a picture is unusable at any
	// size, above the second no link of ours carries it.
	MinBitrate = 50_000
	MaxBitrate = 500_000_000
	// MaxFramerate bounds the rate: no screen of ours is faster, and pacing would be finer than the clock's noise.
	MaxFramerate = 240.0
	// heartbeatEvery is half of the contract's 500 ms.
	heartbeatEvery = 250 * time.Millisecond
	// sampleEvery bounds how often a picture is looked at for black and frozen output: a look costs up to 0.3 ms of cold memory.
	sampleEvery = 250 * time.Millisecond
	// gridColumns x gridRows points are looked at: a window of 1/64 of the screen cannot hide.
	gridColumns, gridRows = 64, 36
	// lostAfter is when a picture in the encoder counts as lost: dropped by it, or the encoder holds it back. 1080p in software
	// on a loaded machine takes a tenth of it.
	lostAfter = 1 * time.Second
	// maxLost pictures in a row end the run: the encoder hangs.
	maxLost = 2
	// maxMissedKeys is how often an encoder may ignore a request for a keyframe before its pipeline is rebuilt, which gives one.
	maxMissedKeys = 3
	// rebuildLimit failures of pipelines without a unit between them end the run; the host runtime decides what comes then.
	rebuildLimit = 2
	// startTimeout bounds the start of a pipeline.
	startTimeout = 5 * time.Second
	// commandQueue bounds control calls waiting for the run; a call blocks when it is full, until its context ends.
	commandQueue = 8
	// paceSlack is what the rate limit is above the rate: half an interval is made up for with 500 pictures.
	paceSlack = 1.0 / 1000
	// pictureQueue bounds pictures between intake and run; the run always takes at once, so one suffices. The intake blocks when full,
	// which uses up the capturer's credit.
	pictureQueue = 1
	// unitQueue bounds units between pipeline and run: one is in the encoder at a time, the rest is for strays.
	unitQueue = 4
	// warmupFrames of a probe are encoded but not counted as latency: the first pays for memory and threads.
	warmupFrames = 3
	// maxProbeFrames bounds a probe.
	maxProbeFrames = 600
	// maxOption bounds an option's value in bytes.
	maxOption = 64
)
