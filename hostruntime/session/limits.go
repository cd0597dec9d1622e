package session

import "time"

const (
	// defaultGrace is how long a session waits for its controller: a laptop that sleeps for a moment, a Wi-Fi that roams.
	defaultGrace = 30 * time.Second
	// defaultMaxBitrate in bits per second: 1080p60 of text and video looks clean with x264 ultrafast.
	defaultMaxBitrate = 20_000_000
	minBitrate        = 300_000
	// startBitrate is a good first picture at 720p, and less than any broadband line has.
	startBitrate  = 6_000_000
	defaultMaxFPS = 60

	// tickInterval of rates, grace and keyframes; the rate controller decides as often.
	tickInterval = 50 * time.Millisecond
	// adjustStep is the share by which the bitrate must have moved for the encoder to be told. The rate controller keeps 20 % of
	// the path free, so that 3 % are never missed.
	adjustStep = 0.03
	// statsInterval of what the overlay shows.
	statsInterval = 500 * time.Millisecond
	// watcherKeyframes is the least time between keyframes that a watcher's bad path may cost everybody.
	watcherKeyframes = 2 * time.Second

	// maxTasks waiting for the owner. Callers block when it is full; nothing is lost.
	maxTasks = 256
	// maxViewers of one session; more are refused with CodeFull.
	maxViewers = 16
	// maxOutgoing control messages per viewer. A viewer that reads none of so many is gone: its connection is closed.
	maxOutgoing = 256
	// maxInputs waiting for the compositor. Motion beyond it is dropped and counted, all else waits and so slows the sender.
	maxInputs = 256
	// maxSentUnits remembered per viewer for its reports: two seconds at 144 Hz.
	maxSentUnits = 256
	// helloTimeout for a connected viewer to say hello and to prove that it holds its key.
	helloTimeout = 5 * time.Second
	// maxUnproven connections of a host that have not proven anything yet; the oldest goes. A host has up to 16 viewers for each of its slots.
	maxUnproven = 256
	// maxUnprovenOfLease is the share of one lease: a page races its candidates, again while it reconnects; the oldest goes.
	maxUnprovenOfLease = 8
	// byeTimeout for a viewer to read our bye before its connection is closed.
	byeTimeout = 500 * time.Millisecond
	// cutAfter our bye was queued, the connection is closed though the viewer has not taken it: longer than byeTimeout, for the polite,
	// and well below the two seconds within which the end of a right must bite.
	cutAfter = time.Second
	// fitPatience is how long a first picture may wait for the desktop to take the viewer's size; a resize takes about 100 ms.
	fitPatience = 1500 * time.Millisecond
	// fitSettles is how long pictures of the old size may still come after the desktop has changed.
	fitSettles = 300 * time.Millisecond
	// replaceAfter a newer connection of the same viewer has its first picture, the older one is closed. A viewer closes it
	// itself sooner.
	replaceAfter = 2 * time.Second
)
