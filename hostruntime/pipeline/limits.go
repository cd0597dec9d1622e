package pipeline

import "time"

const (
	// silentAfter without heartbeat or picture is a hang. Plugins beat every 250 ms (the contract allows 500); detection must be
	// within a second.
	silentAfter = 900 * time.Millisecond
	// startTimeout bounds launch and Start of one candidate: a portal needs 0.2-1 s, GStreamer's first registry scan 2 s.
	startTimeout = 6 * time.Second
	// firstUnitAfter both run, the first unit must be there: a loaded software compositor takes 1-2 s for its first picture.
	firstUnitAfter = 4 * time.Second
	// unitAfter a picture went into the encoder, something must come out.
	unitAfter = time.Second
	// blackAfter and frozenAfter of a bad picture under input, a capture is suspected. Shorter would suspect a fade or a page that loads.
	blackAfter  = 3 * time.Second
	frozenAfter = 3 * time.Second
	// suspectInputs is how many keys or buttons must have had no effect meanwhile; motion alone may have none.
	suspectInputs = 4
	// frozenFrames must have come in while the picture stayed the same: an idle desktop sends none and is not frozen.
	frozenFrames = 30
	// maxSuspicions in a row: restart the capture, then try another; if the picture is still black it is the desktop that is.
	maxSuspicions = 2
	// maxFailures of a candidate in a row, then the next one is tried.
	maxFailures = 2
	// healthyAfter of running without failure, earlier failures are forgotten.
	healthyAfter = 10 * time.Second
	// backoffFirst is the wait before the second restart in a row (the first is immediate); it doubles up to backoffMax.
	backoffFirst = 100 * time.Millisecond
	backoffMax   = 2 * time.Second
	// maxRounds over all candidates without a picture, and the pipeline gives up; in a session that had a picture, it also goes on
	// for giveUpAfter, since a compositor may be restarting.
	maxRounds   = 2
	giveUpAfter = 20 * time.Second
	// callTimeout bounds control calls; a plugin that needs longer hangs.
	callTimeout = time.Second
	// stopTimeout bounds the polite Stop before a plugin is killed.
	stopTimeout = time.Second
	// blameGrace is how long a failing encoder waits for its capture to turn out dead: losing the source looks like its own failure.
	blameGrace = 100 * time.Millisecond
	// tellEvery is how often the owner hears that units come: often enough for silentAfter, rarer than pictures.
	tellEvery = 100 * time.Millisecond
	// askEvery is how often a keyframe is asked for while units cannot be decoded: an encoder needs a few frames to obey.
	askEvery = 250 * time.Millisecond
	// messageQueue bounds what runs tell the owner; a full queue blocks the teller until the owner is there.
	messageQueue = 64
)
