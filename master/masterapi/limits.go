package masterapi

// Limits of what the API accepts; a longer value is refused with invalid_request.
const (
	// MaxIDLen is the longest id (session, viewer, lease, host, relay, request, login), as tokens allow.
	MaxIDLen = 64
	// MaxMessageLen is the longest sentence shown to a viewer: one line on a screen.
	MaxMessageLen = 200
	// MaxCertificates is how many certificates of a host may be valid at once: the present and the next one, and room for one more.
	MaxCertificates = 3
	// MaxDirectAddresses bounds the direct candidates of a host: a few interfaces in both families.
	MaxDirectAddresses = 16
	// MaxAttributes bounds the free attributes of a host.
	MaxAttributes = 32
	// MaxPage is the largest page of a list.
	MaxPage = 10000
	// DefaultPage is the page of a list when the caller names none.
	DefaultPage = 1000
	// MaxSnapshotChunk is the largest piece of a snapshot stream, well below the message limit.
	MaxSnapshotChunk = 1 << 20
	// MaxRequestBytes bounds any unary request and any message of a link: a host with 1000 sessions says hello in less.
	MaxRequestBytes = 4 << 20
)
