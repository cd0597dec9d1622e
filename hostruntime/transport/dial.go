package transport

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/webtransport-go"

	"github.com/wavry/fleet/hostruntime/proof"
	"github.com/wavry/fleet/hostruntime/streamwire"
)

// ViewerConn is the viewer's end of a connection: what a browser does, for tests, probes and load.
type ViewerConn struct {
	token   string // of the URL
	session *webtransport.Session
	dialer  *webtransport.Transport
}

// Dial connects to url, accepting only certificates with one of the SHA-256 hashes.
func Dial(ctx context.Context, url string, hashes [][]byte) (*ViewerConn, error) {
	cfg := quicConfig()
	cfg.MaxIncomingUniStreams = 100 // as Chromium grants
	dialer := &webtransport.Transport{
		TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS13, NextProtos: []string{http3.NextProtoH3},
			InsecureSkipVerify: true, //nolint:gosec // the pinned hash is checked instead, as browsers do
			VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
				return verifyHash(raw, hashes)
			},
		},
		QUICConfig: cfg,
	}
	response, session, err := dialer.Dial(ctx, url, nil)
	if err != nil {
		refused := ""
		if response != nil && response.StatusCode != http.StatusOK {
			refused = fmt.Sprintf(" (status %d)", response.StatusCode)
		}
		return nil, errors.Join(fmt.Errorf("connect to host%s: %w", refused, err), dialer.Close())
	}
	return &ViewerConn{token: url[strings.LastIndex(url, "/")+1:], session: session, dialer: dialer}, nil
}

func verifyHash(raw [][]byte, hashes [][]byte) error {
	if len(raw) == 0 {
		return errors.New("host showed no certificate")
	}
	sum := sha256.Sum256(raw[0])
	if !slices.ContainsFunc(hashes, func(h []byte) bool { return string(h) == string(sum[:]) }) {
		return fmt.Errorf("host's certificate has hash %x, which the grant does not name", sum)
	}
	return nil
}

// Control waits for the host's control stream and its challenge.
func (v *ViewerConn) Control(ctx context.Context) (io.ReadWriteCloser, *streamwire.Challenge, error) {
	stream, err := v.session.AcceptStream(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("wait for the control stream: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { stream.CancelRead(0) })
	defer stop()
	if err := expectKind(stream, streamwire.StreamControl); err != nil {
		return nil, nil, err
	}
	m, err := streamwire.NewMessageReader(stream).Next()
	if err != nil {
		return nil, nil, fmt.Errorf("read the host's challenge: %w", err)
	}
	challenge, ok := m.(*streamwire.Challenge)
	if !ok {
		return nil, nil, &streamwire.WireError{Problem: fmt.Sprintf("a host begins with its challenge, not with %T", m)}
	}
	return stream, challenge, nil
}

// Greet does what a page does first: it says hello and proves to the host of that identity that it holds key. It returns the control stream.
func (v *ViewerConn) Greet(ctx context.Context, hello *streamwire.Hello, identity []byte, key *proof.Key) (io.ReadWriteCloser, error) {
	control, challenge, err := v.Control(ctx)
	if err != nil {
		return nil, err
	}
	p, err := Prove(challenge, identity, v.token, key)
	if err != nil {
		return nil, err
	}
	if _, err := control.Write(streamwire.AppendMessage(streamwire.AppendMessage(nil, hello), p)); err != nil {
		return nil, fmt.Errorf("say hello: %w", err)
	}
	return control, nil
}

// Prove answers a challenge of the host of that identity, for the bearer of a viewer's token.
func Prove(c *streamwire.Challenge, identity []byte, token string, key *proof.Key) (*streamwire.Proof, error) {
	statement, err := proof.Statement([proof.NonceLen]byte(c.Nonce), identity, token)
	if err != nil {
		return nil, err
	}
	signature, err := key.Sign(statement)
	if err != nil {
		return nil, err
	}
	public := key.Public()
	return &streamwire.Proof{Key: public[:], Signature: signature[:]}, nil
}

// OpenInput opens the input stream.
func (v *ViewerConn) OpenInput(ctx context.Context) (io.WriteCloser, error) {
	stream, err := v.session.OpenUniStreamSync(ctx)
	if err != nil {
		return nil, fmt.Errorf("open the input stream: %w", err)
	}
	_, err = stream.Write([]byte{streamwire.StreamInput})
	return stream, err
}

// AcceptUnit waits for the next video stream and reads it to its end. Units may arrive out of order. It may be called from
// several goroutines.
func (v *ViewerConn) AcceptUnit(ctx context.Context) (streamwire.VideoHeader, []byte, error) {
	stream, err := v.session.AcceptUniStream(ctx)
	if err != nil {
		return streamwire.VideoHeader{}, nil, fmt.Errorf("wait for a unit: %w", err)
	}
	raw, err := io.ReadAll(io.LimitReader(stream, streamwire.MaxAccessUnit))
	if err != nil {
		return streamwire.VideoHeader{}, nil, fmt.Errorf("read a unit: %w", err)
	}
	if len(raw) == 0 || raw[0] != streamwire.StreamVideo {
		return streamwire.VideoHeader{}, nil, &streamwire.WireError{Problem: "a host opens only video streams"}
	}
	header, err := streamwire.ParseVideoHeader(raw[1:])
	if err != nil {
		return streamwire.VideoHeader{}, nil, err
	}
	return header, raw[1+streamwire.VideoHeaderLen:], nil
}

// SendDatagram sends one datagram.
func (v *ViewerConn) SendDatagram(b []byte) error { return v.session.SendDatagram(b) }

// ReceiveDatagram waits for one datagram.
func (v *ViewerConn) ReceiveDatagram(ctx context.Context) ([]byte, error) {
	return v.session.ReceiveDatagram(ctx)
}

// Done is closed when the connection is over.
func (v *ViewerConn) Done() <-chan struct{} { return v.session.Context().Done() }

// Close drops the connection without a bye.
func (v *ViewerConn) Close() error {
	return errors.Join(v.session.CloseWithError(0, ""), v.dialer.Close())
}
