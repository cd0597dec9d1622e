package streamwire

// Limits of what a peer may make us hold.
const (
	// MaxMessage is the longest message on control or input: a cursor picture of 256x256 RGBA and its header.
	MaxMessage = 256*256*4 + 64
	// MaxAccessUnit bounds a video stream; the same as one gRPC message from an encoder.
	MaxAccessUnit = 16 << 20
	// MaxDatagram is what Chromium sends at most on a path with the default MTU (measured 2026-11-23).
	MaxDatagram = 1215
	// MaxReports of units in one Feedback; with MaxInputReports it stays below MaxDatagram.
	MaxReports = 40
	// MaxInputReports in one Feedback.
	MaxInputReports = 32
	// MaxCodecs in one Hello.
	MaxCodecs = 16
	// MaxText is the bytes of one Text: what a dictated paragraph has, and what a desktop types in a moment.
	MaxText = 4096
	// MaxHashes in one Move: present and next certificate, and room for one more rotation.
	MaxHashes = 4
	// MaxPeople in one People: as many as a session has viewers.
	MaxPeople = 16
	// MaxCursor is the largest side of a cursor picture in pixels.
	MaxCursor = 256
)

// Lengths in a Challenge and a Proof; package proof says what they are.
const (
	NonceLen     = 32
	KeyLen       = 65 // an uncompressed P-256 point: 4, x, y
	SignatureLen = 64 // r and s, as WebCrypto gives them
)

// VideoHeaderLen is the length of a video stream's header without the kind byte.
const VideoHeaderLen = 36

// messageHeaderLen is type and length.
const messageHeaderLen = 4
