package streamwire

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Message is anything that travels on a control or input stream.
type Message interface {
	messageType() byte
	appendBody(b []byte) []byte
	parseBody(r *reader) error
}

// AppendMessage appends m with its header.
func AppendMessage(b []byte, m Message) []byte {
	start := len(b)
	b = m.appendBody(append(b, m.messageType(), 0, 0, 0))
	n := len(b) - start - messageHeaderLen
	b[start+1], b[start+2], b[start+3] = byte(n>>16), byte(n>>8), byte(n)
	return b
}

// ParseMessage reads one whole message. It returns nil, nil for an unknown optional type.
func ParseMessage(kind byte, body []byte) (Message, error) {
	m := newMessage(kind)
	if m == nil {
		if kind > 0x60 && kind&1 == 1 && kind&0x80 == 0 {
			return nil, nil
		}
		return nil, &WireError{Type: kind, Problem: "unknown type"}
	}
	r := reader{b: body}
	if err := m.parseBody(&r); err != nil {
		return nil, err
	}
	if r.short {
		return nil, truncated(kind, len(body))
	}
	return m, nil
}

func newMessage(kind byte) Message {
	switch kind {
	case typeHello:
		return &Hello{}
	case typeKeyframe:
		return &Keyframe{}
	case typeResize:
		return &Resize{}
	case typeLimits:
		return &Limits{}
	case typeBye:
		return &Bye{}
	case typeProof:
		return &Proof{}
	case typeWelcome:
		return &Welcome{}
	case typeState:
		return &StateChange{}
	case typeResized:
		return &Resized{}
	case typeCursor:
		return &Cursor{}
	case typeStats:
		return &Stats{}
	case typeMove:
		return &Move{}
	case typePeople:
		return &People{}
	case typeUntyped:
		return &Untyped{}
	case typeChallenge:
		return &Challenge{}
	case typeKey:
		return &Key{}
	case typeButton:
		return &Button{}
	case typeScroll:
		return &Scroll{}
	case typeTouch:
		return &Touch{}
	case typeReleaseAll:
		return &ReleaseAll{}
	case typeText:
		return &Text{}
	case typeLocks:
		return &Locks{}
	}
	return nil
}

// MessageReader reads messages off one stream, reusing its buffer. It belongs to one goroutine.
type MessageReader struct {
	r   io.Reader
	buf []byte
}

// NewMessageReader reads from r, whose kind byte has been read.
func NewMessageReader(r io.Reader) *MessageReader { return &MessageReader{r: r} }

// Next returns the next message, skipping unknown optional ones. The message does not alias the reader's buffer. It returns io.EOF
// at the end of the stream between messages, and a *WireError for bytes that are wrong.
func (m *MessageReader) Next() (Message, error) {
	for {
		msg, err := m.next()
		if msg != nil || err != nil {
			return msg, err
		}
	}
}

func (m *MessageReader) next() (Message, error) {
	var header [messageHeaderLen]byte
	if _, err := io.ReadFull(m.r, header[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint32(header[:]) & 0xffffff)
	if n > MaxMessage {
		return nil, &WireError{Type: header[0], Problem: fmt.Sprintf("%d bytes, at most %d", n, MaxMessage)}
	}
	if cap(m.buf) < n {
		m.buf = make([]byte, n)
	}
	if _, err := io.ReadFull(m.r, m.buf[:n]); err != nil {
		if err == io.EOF { //nolint:errorlint // ReadFull returns it bare
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return ParseMessage(header[0], m.buf[:n])
}
