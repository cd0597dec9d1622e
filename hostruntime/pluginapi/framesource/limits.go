package framesource

// Limits of what a peer may make us hold.
const (
	// MaxBuffers registered at once: triple buffering twice over, for a resize in flight. More is refused.
	MaxBuffers = 8
	// MaxPlanes of one buffer, as DRM has it.
	MaxPlanes = 4
	// MaxDimension of a picture in pixels: 16K.
	MaxDimension = 16384
	// maxMessage is the largest packet: BUFFER with four planes is 66 bytes; rounded up for growth.
	maxMessage = 256
)
