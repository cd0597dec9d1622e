package streamwire

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/wavry/fleet/hostruntime/media"
)

// Hello is the viewer's first message on its control stream.
type Hello struct {
	Version       uint16
	Width, Height uint16 // of the viewer's picture area in device pixels; 0: unknown
	Scale         uint16 // device pixels of one of the page's, in 1/ScaleUnit; 0: unknown
	MaxKbps       uint32
	MaxFPS        uint8
	Codecs        []media.Codec // that the viewer decodes, best first
}

func (*Hello) messageType() byte { return typeHello }

func (m *Hello) appendBody(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, m.Version)
	b = binary.BigEndian.AppendUint16(b, m.Width)
	b = binary.BigEndian.AppendUint16(b, m.Height)
	b = binary.BigEndian.AppendUint16(b, m.Scale)
	b = binary.BigEndian.AppendUint32(b, m.MaxKbps)
	b = append(b, m.MaxFPS, byte(len(m.Codecs)))
	for _, c := range m.Codecs {
		b = append(b, byte(c))
	}
	return b
}

func (m *Hello) parseBody(r *reader) error {
	m.Version, m.Width, m.Height, m.Scale, m.MaxKbps, m.MaxFPS = r.u16(), r.u16(), r.u16(), r.u16(), r.u32(), r.u8()
	n := int(r.u8())
	if n > MaxCodecs {
		return &WireError{Type: typeHello, Problem: fmt.Sprintf("%d codecs, at most %d", n, MaxCodecs)}
	}
	for range n {
		m.Codecs = append(m.Codecs, media.Codec(r.u8()))
	}
	return nil
}

// Challenge is the host's first message on the control stream: what the viewer must sign.
type Challenge struct {
	Nonce []byte // NonceLen bytes
}

func (*Challenge) messageType() byte { return typeChallenge }

func (m *Challenge) appendBody(b []byte) []byte { return append(b, m.Nonce...) }

func (m *Challenge) parseBody(r *reader) error {
	m.Nonce = bytes.Clone(r.take(NonceLen))
	return nil
}

// Proof follows Hello: the viewer holds the key that its token names. Package proof says what is signed.
type Proof struct {
	Key       []byte // KeyLen bytes
	Signature []byte // SignatureLen bytes
}

func (*Proof) messageType() byte { return typeProof }

func (m *Proof) appendBody(b []byte) []byte { return append(append(b, m.Key...), m.Signature...) }

func (m *Proof) parseBody(r *reader) error {
	m.Key, m.Signature = bytes.Clone(r.take(KeyLen)), bytes.Clone(r.take(SignatureLen))
	return nil
}

// Keyframe asks for a keyframe because a unit was lost or could not be decoded.
type Keyframe struct {
	Track       uint8
	LastDecoded uint32
}

func (*Keyframe) messageType() byte { return typeKeyframe }

func (m *Keyframe) appendBody(b []byte) []byte {
	return binary.BigEndian.AppendUint32(append(b, m.Track), m.LastDecoded)
}

func (m *Keyframe) parseBody(r *reader) error {
	m.Track, m.LastDecoded = r.u8(), r.u32()
	return nil
}

// Resize asks the desktop to follow the viewer's area; its fields are Hello's.
type Resize struct{ Width, Height, Scale uint16 }

func (*Resize) messageType() byte { return typeResize }

func (m *Resize) appendBody(b []byte) []byte {
	return binary.BigEndian.AppendUint16(appendSize(b, m.Width, m.Height), m.Scale)
}

func (m *Resize) parseBody(r *reader) error {
	m.Width, m.Height, m.Scale = r.u16(), r.u16(), r.u16()
	return nil
}

// Limits changes what the viewer wants at most; 0 leaves the choice to the host.
type Limits struct {
	MaxKbps uint32
	MaxFPS  uint8
}

func (*Limits) messageType() byte { return typeLimits }

func (m *Limits) appendBody(b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, m.MaxKbps), m.MaxFPS)
}

func (m *Limits) parseBody(r *reader) error {
	m.MaxKbps, m.MaxFPS = r.u32(), r.u8()
	return nil
}

// Bye ends the session politely; Text is a sentence for the person.
type Bye struct {
	Code Code
	Text string
}

func (*Bye) messageType() byte { return typeBye }

func (m *Bye) appendBody(b []byte) []byte { return appendText(append(b, byte(m.Code)), m.Text) }

func (m *Bye) parseBody(r *reader) error {
	m.Code, m.Text = Code(r.u8()), r.text()
	return nil
}

// Welcome is the host's answer to Hello.
type Welcome struct {
	Version       uint16
	Role          Role
	Input, Resize bool // the desktop takes input, follows Resize
	Codec         media.Codec
	Width, Height uint16
	FPS           uint8
	Session       string
}

const (
	welcomeInput  = 1
	welcomeResize = 2
)

func (*Welcome) messageType() byte { return typeWelcome }

func (m *Welcome) appendBody(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, m.Version)
	b = append(b, byte(m.Role), boolByte(m.Input)*welcomeInput|boolByte(m.Resize)*welcomeResize, byte(m.Codec))
	b = append(appendSize(b, m.Width, m.Height), m.FPS)
	return appendText(b, m.Session)
}

func (m *Welcome) parseBody(r *reader) error {
	m.Version, m.Role = r.u16(), Role(r.u8())
	flags := r.u8()
	m.Input, m.Resize = flags&welcomeInput != 0, flags&welcomeResize != 0
	m.Codec, m.Width, m.Height, m.FPS, m.Session = media.Codec(r.u8()), r.u16(), r.u16(), r.u8(), r.text()
	return nil
}

// StateChange tells the viewer what happens at the host; Text is a sentence for the person.
type StateChange struct {
	State State
	Text  string
}

func (*StateChange) messageType() byte { return typeState }

func (m *StateChange) appendBody(b []byte) []byte {
	return appendText(append(b, byte(m.State)), m.Text)
}

func (m *StateChange) parseBody(r *reader) error {
	m.State, m.Text = State(r.u8()), r.text()
	return nil
}

// Resized says that pictures have this size from now on.
type Resized struct{ Width, Height uint16 }

func (*Resized) messageType() byte { return typeResized }

func (m *Resized) appendBody(b []byte) []byte { return appendSize(b, m.Width, m.Height) }

func (m *Resized) parseBody(r *reader) error {
	m.Width, m.Height = r.u16(), r.u16()
	return nil
}

// Cursor is the pointer where it is not part of the picture. RGBA is nil while the picture stays the same.
type Cursor struct {
	Visible            bool
	X, Y               uint16
	HotspotX, HotspotY uint16 // pixels
	Width, Height      uint16 // pixels
	RGBA               []byte // Width*Height*4 bytes
}

const (
	cursorVisible = 1
	cursorPicture = 2
)

func (*Cursor) messageType() byte { return typeCursor }

func (m *Cursor) appendBody(b []byte) []byte {
	b = append(b, boolByte(m.Visible)*cursorVisible|boolByte(m.RGBA != nil)*cursorPicture)
	b = appendSize(appendSize(b, m.X, m.Y), m.HotspotX, m.HotspotY)
	if m.RGBA == nil {
		return b
	}
	return append(appendSize(b, m.Width, m.Height), m.RGBA...)
}

func (m *Cursor) parseBody(r *reader) error {
	flags := r.u8()
	m.Visible = flags&cursorVisible != 0
	m.X, m.Y, m.HotspotX, m.HotspotY = r.u16(), r.u16(), r.u16(), r.u16()
	if flags&cursorPicture == 0 {
		return nil
	}
	m.Width, m.Height = r.u16(), r.u16()
	if m.Width == 0 || m.Height == 0 || m.Width > MaxCursor || m.Height > MaxCursor {
		return &WireError{Type: typeCursor, Problem: fmt.Sprintf("picture of %dx%d is outside 1..%d", m.Width, m.Height, MaxCursor)}
	}
	m.RGBA = bytes.Clone(r.take(int(m.Width) * int(m.Height) * 4))
	return nil
}

// Stats is what the host knows and the viewer cannot measure, sent about twice a second.
type Stats struct {
	RTT              uint32 // microseconds, as QUIC smooths it
	TargetKbps       uint32
	FPS              uint8
	Window           uint32 // congestion window in bytes
	Skipped          uint32 // units skipped since the start
	Path             Path
	Encoder, Capture string
}

func (*Stats) messageType() byte { return typeStats }

func (m *Stats) appendBody(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, m.RTT)
	b = binary.BigEndian.AppendUint32(b, m.TargetKbps)
	b = append(b, m.FPS)
	b = binary.BigEndian.AppendUint32(b, m.Window)
	b = binary.BigEndian.AppendUint32(b, m.Skipped)
	b = append(b, byte(m.Path))
	return appendText(appendText(b, m.Encoder), m.Capture)
}

func (m *Stats) parseBody(r *reader) error {
	m.RTT, m.TargetKbps, m.FPS, m.Window, m.Skipped = r.u32(), r.u32(), r.u8(), r.u32(), r.u32()
	m.Path, m.Encoder, m.Capture = Path(r.u8()), r.text(), r.text()
	return nil
}

// Move asks the viewer to open a second connection at URL and to leave this one when a picture came over the new one.
type Move struct {
	URL    string
	Hashes [][]byte // SHA-256 of the certificates to accept, 32 bytes each
}

func (*Move) messageType() byte { return typeMove }

func (m *Move) appendBody(b []byte) []byte {
	b = append(appendText(b, m.URL), byte(len(m.Hashes)))
	for _, h := range m.Hashes {
		b = append(b, h...)
	}
	return b
}

func (m *Move) parseBody(r *reader) error {
	m.URL = r.text()
	n := int(r.u8())
	if n > MaxHashes {
		return &WireError{Type: typeMove, Problem: fmt.Sprintf("%d hashes, at most %d", n, MaxHashes)}
	}
	for range n {
		m.Hashes = append(m.Hashes, bytes.Clone(r.take(32)))
	}
	return nil
}

// People says who else is connected to the session, so that nobody is watched without knowing it.
type People struct{ Others []Person }

// Person is one viewer. Name is for people; empty when it is not known.
type Person struct {
	Role Role
	Name string
}

func (*People) messageType() byte { return typePeople }

func (m *People) appendBody(b []byte) []byte {
	b = append(b, byte(len(m.Others)))
	for _, p := range m.Others {
		b = appendText(append(b, byte(p.Role)), p.Name)
	}
	return b
}

func (m *People) parseBody(r *reader) error {
	n := int(r.u8())
	if n > MaxPeople {
		return &WireError{Type: typePeople, Problem: fmt.Sprintf("%d people, at most %d", n, MaxPeople)}
	}
	for range n {
		m.Others = append(m.Others, Person{Role: Role(r.u8()), Name: r.text()})
	}
	return nil
}

// Untyped says which characters of a Text the desktop could not type; Reason is a sentence for the person.
type Untyped struct{ Text, Reason string }

func (*Untyped) messageType() byte { return typeUntyped }

func (m *Untyped) appendBody(b []byte) []byte { return appendText(appendText(b, m.Text), m.Reason) }

func (m *Untyped) parseBody(r *reader) error {
	m.Text, m.Reason = r.text(), r.text()
	return nil
}

func appendSize(b []byte, w, h uint16) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, w), h)
}
