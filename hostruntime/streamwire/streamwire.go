// Package streamwire is the bytes that viewer and host exchange on one WebTransport session. It is a leaf: it turns structs into
// bytes and back, and knows nothing of QUIC, sessions or clocks. The web viewer implements the same page in web/src/wire.ts.
//
// Integers are big-endian, text is a u16 length and UTF-8 bytes, times are microseconds (host times on the host's monotonic clock,
// viewer times on performance.now). Positions are u16, 0..65535 across the picture. Ids and sequences wrap.
//
// Streams. The first byte of every stream says what it is:
//
//	0x01  control  host-opened, bidirectional     messages of both sides
//	0x02  input    viewer-opened, unidirectional  keys, buttons, scroll, touch: reliable, in order
//	0x10  video    host-opened, unidirectional    one access unit, ends with the stream
//
// A message on control or input is: type u8, length u24, then length bytes. The host begins the control stream with Challenge, as soon as the
// connection stands; the viewer begins with Hello and Proof. Before the proof a host sends nothing else and reads nothing else.
//
//	Hello      0x01 v->h  version u16, width u16, height u16, scale u16 (1/120), max bitrate u32 (kbit/s, 0: host's choice), max fps u8,
//	                      n u8, n x codec u8
//	Keyframe   0x02 v->h  track u8, last decoded sequence u32
//	Resize     0x03 v->h  width u16, height u16, scale u16 (1/120)
//	Limits     0x04 v->h  max bitrate u32 (kbit/s), max fps u8
//	Bye        0x05 both  code u8, text
//	Proof      0x06 v->h  public key (65 bytes, uncompressed P-256 point), ECDSA signature (64 bytes); see package proof
//	Welcome    0x81 h->v  version u16, role u8, flags u8, codec u8, width u16, height u16, fps u8, session text; sent again when these change
//	State      0x82 h->v  state u8, text
//	Resized    0x83 h->v  width u16, height u16
//	Cursor     0x84 h->v  flags u8 (1 visible, 2 picture follows), x u16, y u16, hotspot x u16, y u16, [width u16, height u16, RGBA]
//	Stats      0x85 h->v  rtt u32, target bitrate u32 (kbit/s), fps u8, window u32 (bytes), skipped u32, path u8, encoder text, capture text
//	Move       0x86 h->v  URL text, n u8, n x certificate hash (32 bytes)
//	People     0x87 h->v  n u8, n x (role u8, name text): who else is connected; sent before they get a picture, and at each change
//	Untyped    0x88 h->v  characters text, reason text
//	Challenge  0x89 h->v  nonce (32 bytes)
//
//	Key        0x21 v->h  id u32, evdev code u16, down u8
//	Button     0x22 v->h  id u32, evdev code u16, down u8, placed u8, x u16, y u16
//	Scroll     0x23 v->h  id u32, x i32, y i32 (1/120 notch)
//	Touch      0x24 v->h  id u32, finger u8, phase u8, x u16, y u16
//	ReleaseAll 0x25 v->h  id u32
//	Text       0x26 v->h  id u32, characters text
//	Locks      0x27 v->h  id u32, known u8, on u8 (1 Caps, 2 Num, 4 Scroll)
//
// Video is a header of 36 bytes after the kind byte, then the access unit up to the end of the stream:
//
//	track u8, codec u8, flags u8 (1 keyframe, 2 repeat), reserved u8, sequence u32, width u16, height u16, capture time u64,
//	hand-off u32, encode u32, send u32 (each the microseconds after the previous stage), last input id applied u32
//
// Sequences count the units that were sent, without gaps: a unit the host skipped has none, and the unit after a skip is a
// keyframe. A viewer that misses a sequence asks for a keyframe.
//
// Datagrams. The first byte is the type:
//
//	MotionAbsolute 0x31 v->h  id u32, x u16, y u16: an older id than the last is stale
//	MotionRelative 0x32 v->h  id u32, total dx i32, dy i32 (1/256 pixel since the start): a lost datagram loses no motion
//	Feedback       0x33 v->h  now u64, highest sequence u32, lost u32, undecoded u8, n u8, n x unit report, m u8, m x input report
//	                          unit report: sequence u32, received u64, decode u32, present u32 (delays; 0xffffffff: not yet)
//	                          input report: id u32, input-to-present u32
//	Ping           0x34 v->h  id u16, viewer time u64
//	Pong           0x44 h->v  id u16, viewer time u64, host time u64
//
// Growth: receivers ignore trailing bytes of messages, messages of the unknown odd types 0x61..0x7f (optional), and
// unknown datagrams; any other unknown type ends the session with CodeProtocol. A change of meaning raises Version.
package streamwire

// ScaleUnit is one device pixel per pixel of the page: the fractions that screens have are whole numbers of 1/120.
const ScaleUnit = 120

// Version of this page. A host refuses a viewer of another version with CodeVersion.
const Version = 2

// Kinds of streams.
const (
	StreamControl byte = 0x01
	StreamInput   byte = 0x02
	StreamVideo   byte = 0x10
)

// Types of messages and datagrams.
const (
	typeHello    = 0x01
	typeKeyframe = 0x02
	typeResize   = 0x03
	typeLimits   = 0x04
	typeBye      = 0x05
	typeProof    = 0x06

	typeWelcome   = 0x81
	typeState     = 0x82
	typeResized   = 0x83
	typeCursor    = 0x84
	typeStats     = 0x85
	typeMove      = 0x86
	typePeople    = 0x87
	typeUntyped   = 0x88
	typeChallenge = 0x89

	typeKey        = 0x21
	typeButton     = 0x22
	typeScroll     = 0x23
	typeTouch      = 0x24
	typeReleaseAll = 0x25
	typeText       = 0x26
	typeLocks      = 0x27

	typeMotionAbsolute = 0x31
	typeMotionRelative = 0x32
	typeFeedback       = 0x33
	typePing           = 0x34
	typePong           = 0x44
)

// Code is why a session ended. The numbers are part of the protocol.
type Code uint8

// The closed set of codes.
const (
	CodeEnded      Code = 0  // the person ended it
	CodeProtocol   Code = 1  // the other side sent something this version does not know
	CodeVersion    Code = 2  // another protocol version: reload the page
	CodeLease      Code = 3  // the lease was refused or has ended
	CodeReplaced   Code = 4  // a newer connection of the same viewer took over
	CodeControlled Code = 5  // somebody else is in control
	CodeDraining   Code = 6  // the host is being drained
	CodeOperator   Code = 7  // an operator ended the session
	CodeHost       Code = 8  // the host failed: no capture or encoder works
	CodeGrace      Code = 9  // nobody came back within the grace time
	CodeFull       Code = 10 // too many viewers of this session
	CodeMoved      Code = 11 // the session goes on over another path
	CodeProof      Code = 12 // the viewer did not prove that it holds the key which its token names
)

// State is what the person should be told about the stream.
type State uint8

// The closed set of states.
const (
	StateStarting   State = 0
	StateLive       State = 1
	StateRecovering State = 2 // a plugin is being restarted
	StateDraining   State = 3
)

// Role of a viewer.
type Role uint8

// The closed set of roles.
const (
	RoleWatch   Role = 0
	RoleControl Role = 1
)

// Path over which a viewer is connected.
type Path uint8

// The closed set of paths.
const (
	PathDirect Path = 0
	PathRelay  Path = 1
)

var codeNames = [...]string{"ended", "protocol", "version", "lease", "replaced", "controlled", "draining", "operator", "host", "grace", "full", "moved", "proof"}

// String is the code's name in logs and metrics.
func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return "unknown"
}

var stateNames = [...]string{"starting", "live", "recovering", "draining"}

// String is the state's name in logs.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "unknown"
}
