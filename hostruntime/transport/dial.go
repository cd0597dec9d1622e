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

	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/webtransport-go"

	"github.com/wavry/fleet/hostruntime/streamwire"
)

// ViewerConn is the viewer's end of a connection: what a browser does, for tests, probes and load.
type ViewerConn struct {
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
	return &ViewerConn{session: session, dialer: dialer}, nil
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

// OpenControl opens the control stream.
func (v *ViewerConn) OpenControl(ctx context.Context) (io.ReadWriteCloser, error) {
	stream, err := v.session.OpenStreamSync(ctx)
	if err != nil {
		return nil, fmt.Errorf("open the control stream: %w", err)
	}
	_, err = stream.Write([]byte{streamwire.StreamControl})
	return stream, err
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
