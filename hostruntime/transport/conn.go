package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/webtransport-go"

	"github.com/wavry/fleet/hostruntime/streamwire"
)

// conn is Conn over WebTransport.
type conn struct {
	session *webtransport.Session
	quic    *quic.Conn
	relay   *overRelay // nil: direct
}

var _ Conn = (*conn)(nil)

func (c *conn) Control(ctx context.Context) (io.ReadWriteCloser, error) {
	stream, err := c.session.OpenStreamSync(ctx)
	if err != nil {
		return nil, fmt.Errorf("open the control stream: %w", err)
	}
	return &controlStream{Stream: stream}, nil
}

// controlStream begins with its kind, in one packet with what is written first.
type controlStream struct {
	*webtransport.Stream
	begun bool
}

func (s *controlStream) Write(b []byte) (int, error) {
	if s.begun {
		return s.Stream.Write(b)
	}
	s.begun = true
	n, err := s.Stream.Write(append([]byte{streamwire.StreamControl}, b...))
	return max(0, n-1), err
}

func (c *conn) Input(ctx context.Context) (io.Reader, error) {
	stream, err := c.session.AcceptUniStream(ctx)
	if err != nil {
		return nil, fmt.Errorf("wait for the input stream: %w", err)
	}
	if err := expectKind(stream, streamwire.StreamInput); err != nil {
		return nil, err
	}
	return stream, nil
}

func expectKind(r io.Reader, kind byte) error {
	var got [1]byte
	if _, err := io.ReadFull(r, got[:]); err != nil {
		return fmt.Errorf("read the kind of a stream: %w", err)
	}
	if got[0] != kind {
		return &streamwire.WireError{Type: got[0], Problem: fmt.Sprintf("stream kind, want 0x%02x", kind)}
	}
	return nil
}

// headers are reused: SendStream.Write copies small writes before it returns.
var headers = sync.Pool{New: func() any { return new([1 + streamwire.VideoHeaderLen]byte) }}

func (c *conn) SendUnit(header streamwire.VideoHeader, data []byte, done func(error)) error {
	stream, err := c.session.OpenUniStream()
	if err != nil {
		var limit *webtransport.StreamLimitReachedError
		var quicLimit *quic.StreamLimitReachedError
		if errors.As(err, &limit) || errors.As(err, &quicLimit) {
			return ErrBusy
		}
		return fmt.Errorf("open a video stream: %w", err)
	}
	go func() { // ends when the unit is sent or the connection is over
		done(writeUnit(stream, header, data))
	}()
	return nil
}

func writeUnit(stream *webtransport.SendStream, header streamwire.VideoHeader, data []byte) error {
	buf := headers.Get().(*[1 + streamwire.VideoHeaderLen]byte)
	defer headers.Put(buf)
	if _, err := stream.Write(streamwire.AppendVideoHeader(buf[:0], header)); err != nil {
		return fmt.Errorf("send unit %d: %w", header.Sequence, err)
	}
	if _, err := stream.Write(data); err != nil {
		return fmt.Errorf("send unit %d: %w", header.Sequence, err)
	}
	if err := stream.Close(); err != nil {
		return fmt.Errorf("finish unit %d: %w", header.Sequence, err)
	}
	return nil
}

func (c *conn) SendDatagram(b []byte) error { return c.session.SendDatagram(b) }

func (c *conn) ReceiveDatagram(ctx context.Context) ([]byte, error) {
	return c.session.ReceiveDatagram(ctx)
}

func (c *conn) Stats() Stats {
	s := c.quic.ConnectionStats()
	return Stats{
		RTT: s.SmoothedRTT, MinRTT: s.MinRTT, Window: int(s.CongestionWindow),
		PacketsSent: s.PacketsSent, PacketsLost: s.PacketsLost, BytesSent: s.BytesSent, BytesReceived: s.BytesReceived,
	}
}

func (c *conn) Remote() net.Addr {
	if c.relay != nil { // what QUIC sees is a label
		return net.UDPAddrFromAddrPort(c.relay.circuit.path.Media())
	}
	return c.session.RemoteAddr()
}

func (c *conn) Relayed() bool { return c.relay != nil }

func (c *conn) Close(code streamwire.Code, text string) error {
	return c.session.CloseWithError(webtransport.SessionErrorCode(code), text)
}

func (c *conn) Done() <-chan struct{} { return c.session.Context().Done() }
