package masterclient

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/wavry/fleet/master/masterapi"
)

// direct carries one call after the other over one HTTP/1.1 connection, on the caller's goroutine. Go's transports hand a call to goroutines of the
// connection, and the server's HTTP/2 to further ones; waking them took a quarter of the time of a lease. Without HTTP/2 there are no pings, so a call has
// directTimeout to be answered, and whatever fails is repeated over HTTP/2 (retrier).
type direct struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)
	tls  *tls.Config // nil: plaintext
	idle atomic.Pointer[directConn]
}

type directConn struct {
	net.Conn
	target string
	reader *bufio.Reader
	writer *bufio.Writer
	since  time.Time // when it became idle; zero: not used yet
}

func newDirect(transport *http.Transport) *direct {
	d := &direct{dial: transport.DialContext}
	if transport.TLSClientConfig != nil {
		d.tls = transport.TLSClientConfig.Clone()
		d.tls.NextProtos = []string{"http/1.1"}
	}
	return d
}

type directKey struct{}

// withDirect lets the first attempt of a call go over the direct connection, or not.
func withDirect(ctx context.Context, on bool) context.Context {
	return context.WithValue(ctx, directKey{}, on)
}

func isDirect(ctx context.Context) bool {
	on, _ := ctx.Value(directKey{}).(bool)
	return on
}

// RoundTrip implements http.RoundTripper. The body of the response is in memory.
func (d *direct) RoundTrip(request *http.Request) (*http.Response, error) {
	ctx, target := request.Context(), request.URL.Host
	for {
		conn := d.take(target)
		if conn == nil {
			var err error
			if conn, err = d.connect(ctx, target); err != nil {
				return nil, err
			}
		}
		response, err := d.exchange(conn, request)
		if err == nil {
			return response, nil
		}
		if conn.since.IsZero() || ctx.Err() != nil {
			return nil, err
		}
		// The server may have closed the connection while nobody used it.
		if request.Body, err = request.GetBody(); err != nil {
			return nil, err
		}
	}
}

// take returns the idle connection if it leads to target and is fresh, or nil.
func (d *direct) take(target string) *directConn {
	conn := d.idle.Swap(nil)
	if conn != nil && (conn.target != target || time.Since(conn.since) > idleTimeout) {
		_ = conn.Close()
		return nil
	}
	return conn
}

func (d *direct) connect(ctx context.Context, target string) (*directConn, error) {
	conn, err := d.dial(ctx, "tcp", target)
	if err != nil {
		return nil, err
	}
	if d.tls != nil {
		config := d.tls
		if config.ServerName == "" && !config.InsecureSkipVerify {
			config = config.Clone()
			if config.ServerName, _, err = net.SplitHostPort(target); err != nil {
				return nil, errors.Join(err, conn.Close())
			}
		}
		secure := tls.Client(conn, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, err
		}
		conn = secure
	}
	return &directConn{Conn: conn, target: target, reader: bufio.NewReaderSize(conn, directBuffer), writer: bufio.NewWriterSize(conn, directBuffer)}, nil
}

// exchange sends the request, receives the response and keeps the connection for the next call if it can be.
func (d *direct) exchange(conn *directConn, request *http.Request) (*http.Response, error) {
	ctx := request.Context()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	response, err := conn.exchange(request)
	intact := stop() && err == nil && !response.Close && conn.reader.Buffered() == 0 // nothing of another answer
	if !intact {
		_ = conn.Close()
	} else {
		conn.since = time.Now()
		d.put(conn)
	}
	if err != nil && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return response, err
}

func (c *directConn) exchange(request *http.Request) (*http.Response, error) {
	// The wrapping keeps Write from sending the header by itself, which would wake the server twice.
	if err := request.Write(struct{ *bufio.Writer }{c.writer}); err != nil {
		return nil, err
	}
	if err := c.writer.Flush(); err != nil {
		return nil, err
	}
	response, err := http.ReadResponse(c.reader, request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode < 200 {
		return nil, fmt.Errorf("read the answer: unexpected %s before it", response.Status)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, masterapi.MaxRequestBytes+1)) // more is refused by the codec
	if err == nil {
		err = response.Body.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	return response, nil
}

func (d *direct) put(conn *directConn) {
	if old := d.idle.Swap(conn); old != nil {
		_ = old.Close()
	}
}

func (d *direct) close() {
	if conn := d.idle.Swap(nil); conn != nil {
		_ = conn.Close()
	}
}
