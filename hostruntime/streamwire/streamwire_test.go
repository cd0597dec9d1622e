package streamwire

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/wavry/fleet/hostruntime/media"
)

// Every message comes back as it was sent, also through a reader that gets one byte at a time.
func TestMessagesRoundTrip(t *testing.T) {
	var stream []byte
	for _, s := range messageSamples() {
		b := AppendMessage(nil, s.value.(Message))
		stream = append(stream, b...)
		got, err := ParseMessage(b[0], b[messageHeaderLen:])
		if err != nil || !reflect.DeepEqual(got, s.value) {
			t.Errorf("%s: got %+v, %v", s.name, got, err)
		}
	}
	r := NewMessageReader(iotest.OneByteReader(bytes.NewReader(stream)))
	for _, s := range messageSamples() {
		if got, err := r.Next(); err != nil || !reflect.DeepEqual(got, s.value) {
			t.Errorf("%s from a stream: got %+v, %v", s.name, got, err)
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("end: %v", err)
	}
}

// Every message that is cut anywhere is a *WireError, never a value and never a panic; bytes behind a message are ignored.
func TestMessagesCutAndPadded(t *testing.T) {
	for _, s := range messageSamples() {
		b := AppendMessage(nil, s.value.(Message))
		body := b[messageHeaderLen:]
		for n := range body {
			m, err := ParseMessage(b[0], body[:n])
			var wire *WireError
			if m != nil || !errors.As(err, &wire) || wire.Type != b[0] {
				t.Fatalf("%s cut to %d: %+v, %v", s.name, n, m, err)
			}
		}
		if m, err := ParseMessage(b[0], append(bytes.Clone(body), 1, 2, 3)); err != nil || !reflect.DeepEqual(m, s.value) {
			t.Errorf("%s with later fields: %+v, %v", s.name, m, err)
		}
	}
}

// A stream that ends inside a message is an unexpected end, wherever it ends.
func TestReaderCut(t *testing.T) {
	b := AppendMessage(nil, &Bye{Code: CodeHost, Text: "gone"})
	for n := 1; n < len(b); n++ {
		if m, err := NewMessageReader(bytes.NewReader(b[:n])).Next(); m != nil || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut to %d: %+v, %v", n, m, err)
		}
	}
}

// Optional messages that nobody knows are skipped, other unknown ones end the session.
func TestUnknownTypes(t *testing.T) {
	known := AppendMessage(nil, &Resized{Width: 1, Height: 2})
	for kind := range 256 {
		if newMessage(byte(kind)) != nil {
			continue
		}
		stream := append([]byte{byte(kind), 0, 0, 2, 9, 9}, known...)
		m, err := NewMessageReader(bytes.NewReader(stream)).Next()
		optional := kind >= 0x61 && kind <= 0x7f && kind%2 == 1
		var wire *WireError
		if optional && !reflect.DeepEqual(m, &Resized{Width: 1, Height: 2}) {
			t.Errorf("0x%02x: %+v, %v", kind, m, err)
		}
		if !optional && (!errors.As(err, &wire) || m != nil) {
			t.Errorf("0x%02x: %+v, %v", kind, m, err)
		}
	}
}

// Each limit holds: at it a message passes, above it there is an error before anything is allocated for it.
func TestLimits(t *testing.T) {
	codecs := func(n int) Message { return &Hello{Codecs: make([]media.Codec, n)} }
	hashes := func(n int) Message {
		m := &Move{}
		for range n {
			m.Hashes = append(m.Hashes, make([]byte, 32))
		}
		return m
	}
	cursor := func(w, h uint16) Message {
		return &Cursor{Width: w, Height: h, RGBA: make([]byte, int(w)*int(h)*4)}
	}
	for _, c := range []struct {
		name string
		m    Message
		ok   bool
	}{
		{"codecs", codecs(MaxCodecs), true},
		{"codecs above", codecs(MaxCodecs + 1), false},
		{"hashes", hashes(MaxHashes), true},
		{"hashes above", hashes(MaxHashes + 1), false},
		{"people", &People{Others: make([]Person, MaxPeople)}, true},
		{"people above", &People{Others: make([]Person, MaxPeople+1)}, false},
		{"cursor", cursor(MaxCursor, MaxCursor), true},
		{"cursor too wide", cursor(MaxCursor+1, 1), false},
		{"cursor too high", cursor(1, MaxCursor+1), false},
		{"cursor of no width", cursor(0, 1), false},
		{"cursor of no height", cursor(1, 0), false},
		{"text", &Text{Text: strings.Repeat("a", MaxText)}, true},
		{"text above", &Text{Text: strings.Repeat("a", MaxText+1)}, false},
		{"phase", &Touch{Phase: TouchCancel}, true},
		{"phase above", &Touch{Phase: TouchCancel + 1}, false},
	} {
		b := AppendMessage(nil, c.m)
		if _, err := NewMessageReader(bytes.NewReader(b)).Next(); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// A header that promises more than MaxMessage is refused although nothing follows; the largest cursor is below the limit.
func TestMaxMessage(t *testing.T) {
	n := MaxMessage + 1
	_, err := NewMessageReader(bytes.NewReader([]byte{typeBye, byte(n >> 16), byte(n >> 8), byte(n)})).Next()
	var wire *WireError
	if !errors.As(err, &wire) {
		t.Errorf("above: %v", err)
	}
	n--
	if _, err = NewMessageReader(bytes.NewReader([]byte{typeBye, byte(n >> 16), byte(n >> 8), byte(n)})).Next(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("at: %v", err)
	}
	largest := AppendMessage(nil, &Cursor{Width: MaxCursor, Height: MaxCursor, RGBA: make([]byte, MaxCursor*MaxCursor*4)})
	if len(largest)-messageHeaderLen > MaxMessage {
		t.Errorf("the largest cursor has %d bytes", len(largest))
	}
}

// Text from a peer is valid UTF-8 and fits its length field, whatever was sent.
func TestText(t *testing.T) {
	b := AppendMessage(nil, &Bye{Text: "a\xff\xc3z"})
	m, err := ParseMessage(b[0], b[messageHeaderLen:])
	if err != nil || m.(*Bye).Text != "a��z" {
		t.Errorf("%q, %v", m.(*Bye).Text, err)
	}
	b = AppendMessage(nil, &Bye{Text: strings.Repeat("x", 1<<17)})
	m, err = ParseMessage(b[0], b[messageHeaderLen:])
	if err != nil || len(m.(*Bye).Text) != 1<<16-1 {
		t.Errorf("long text: %d bytes, %v", len(m.(*Bye).Text), err)
	}
}

// A message does not alias the reader's buffer: a cursor stays as it was when the next message is read.
func TestMessagesDoNotAlias(t *testing.T) {
	first := &Cursor{Width: 2, Height: 2, RGBA: pattern(16)}
	b := AppendMessage(AppendMessage(nil, first), &Cursor{Width: 2, Height: 2, RGBA: make([]byte, 16)})
	r := NewMessageReader(bytes.NewReader(b))
	m, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Next(); err != nil || !reflect.DeepEqual(m, first) {
		t.Errorf("%+v, %v", m, err)
	}
}

// Input ids are read from every kind of input.
func TestInputIDs(t *testing.T) {
	for _, m := range []Input{&Key{ID: 5}, &Button{ID: 5}, &Scroll{ID: 5}, &Touch{ID: 5}, &ReleaseAll{ID: 5}} {
		if m.InputID() != 5 {
			t.Errorf("%T: %d", m, m.InputID())
		}
	}
}

// Video headers come back as they were, have the length that they say, and are refused when cut.
func TestVideoHeaders(t *testing.T) {
	for _, s := range headerSamples() {
		b := AppendVideoHeader(nil, s.value.(VideoHeader))
		if len(b) != 1+VideoHeaderLen || b[0] != StreamVideo {
			t.Fatalf("%s: %d bytes, kind 0x%02x", s.name, len(b), b[0])
		}
		if got, err := ParseVideoHeader(append(b[1:], "unit"...)); err != nil || got != s.value {
			t.Errorf("%s: %+v, %v", s.name, got, err)
		}
		for n := range VideoHeaderLen {
			if _, err := ParseVideoHeader(b[1 : 1+n]); err == nil {
				t.Errorf("%s cut to %d passes", s.name, n)
			}
		}
	}
}

// Datagrams come back as they were, are refused when cut, and fit the smallest path.
func TestDatagrams(t *testing.T) {
	for _, s := range datagramSamples() {
		b := appendSample(nil, s.value)
		if len(b) > MaxDatagram {
			t.Errorf("%s has %d bytes", s.name, len(b))
		}
		var d Datagram
		if err := ParseDatagram(&d, append(bytes.Clone(b), 0, 0)); err != nil || !sameDatagram(picked(d), s.value) {
			t.Errorf("%s: %+v, %v", s.name, picked(d), err)
		}
		for n := range b {
			if err := ParseDatagram(&d, b[:n]); err == nil {
				t.Errorf("%s cut to %d passes", s.name, n)
			}
		}
	}
	var d Datagram
	if err := ParseDatagram(&d, []byte{0x7f, 1}); err != nil || picked(d) != nil {
		t.Errorf("unknown: %+v, %v", d, err)
	}
}

// sameDatagram compares, with empty and missing lists alike.
func sameDatagram(a, b any) bool {
	fa, ok := a.(Feedback)
	if !ok {
		return a == b
	}
	fb, ok := b.(Feedback)
	if !ok {
		return false
	}
	return bytes.Equal(AppendFeedback(nil, fa), AppendFeedback(nil, fb))
}

// A feedback with more reports than fit leaves them out; one that claims more is refused.
func TestFeedbackLimits(t *testing.T) {
	f := fullFeedback()
	f.Units = append(f.Units, UnitReport{})
	f.Inputs = append(f.Inputs, InputReport{})
	b := AppendFeedback(nil, f)
	var d Datagram
	if err := ParseDatagram(&d, b); err != nil || len(d.Feedback.Units) != MaxReports || len(d.Feedback.Inputs) != MaxInputReports {
		t.Errorf("%d units, %d inputs, %v", len(d.Feedback.Units), len(d.Feedback.Inputs), err)
	}
	const unitsAt = 1 + 8 + 4 + 4 + 1
	for _, at := range []int{unitsAt, unitsAt + 1 + MaxReports*20} {
		bad := append(bytes.Clone(b), make([]byte, 4096)...)
		bad[at]++
		if err := ParseDatagram(&d, bad); err == nil {
			t.Errorf("one report too many at %d passes", at)
		}
	}
}

// What happens per picture and per datagram allocates nothing once its buffers have grown.
func TestHotPathAllocatesNothing(t *testing.T) {
	buf := make([]byte, 0, 2048)
	feedback := fullFeedback()
	packet := AppendFeedback(nil, feedback)
	header := AppendVideoHeader(nil, headerSamples()[0].value.(VideoHeader))
	var d Datagram
	if err := ParseDatagram(&d, packet); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func(){
		"append feedback": func() { buf = AppendFeedback(buf[:0], feedback) },
		"parse feedback":  func() { _ = ParseDatagram(&d, packet) },
		"append header":   func() { buf = AppendVideoHeader(buf[:0], VideoHeader{}) },
		"parse header":    func() { _, _ = ParseVideoHeader(header[1:]) },
		"append pong":     func() { buf = AppendPong(buf[:0], Pong{}) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

func BenchmarkParseFeedback(b *testing.B) {
	packet := AppendFeedback(nil, fullFeedback())
	var d Datagram
	b.ReportAllocs()
	b.SetBytes(int64(len(packet)))
	for b.Loop() {
		if err := ParseDatagram(&d, packet); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVideoHeader(b *testing.B) {
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendVideoHeader(buf[:0], VideoHeader{Sequence: 1})
		if _, err := ParseVideoHeader(buf[1:]); err != nil {
			b.Fatal(err)
		}
	}
}
