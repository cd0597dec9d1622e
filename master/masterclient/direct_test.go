package masterclient

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wavry/fleet/master/masterapi"
)

// fleet is servers in this process by address: each gets the other end of what is dialled.
type fleet map[string]func(net.Conn)

func (f fleet) dial(_ context.Context, _, address string) (net.Conn, error) {
	serve, ok := f[address]
	if !ok {
		return nil, errors.New("connection refused")
	}
	near, far := net.Pipe()
	go serve(far)
	return near, nil
}

func (f fleet) client(t *testing.T, addresses ...string) *Client {
	t.Helper()
	c, err := New(Config{Addresses: addresses, Dial: f.dial})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// frozen accepts and reads, and never answers.
func frozen(conn net.Conn) {
	defer conn.Close()
	_, _ = io.Copy(io.Discard, conn) // until the client gives up
}

// answering is a server that notes how it was asked.
type answering struct {
	masterapi.UnimplementedLeaseServiceHandler
	server http.Server
	conns  chan net.Conn
	asked  []string
}

func startAnswering(t *testing.T, address string) *answering {
	a := &answering{conns: make(chan net.Conn)}
	_, handler := masterapi.NewLeaseServiceHandler(a)
	a.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.asked = append(a.asked, r.Proto)
		w.Header().Set(LeaderHeader, address)
		handler.ServeHTTP(w, r)
	})
	a.server.Protocols = new(http.Protocols)
	a.server.Protocols.SetHTTP1(true)
	a.server.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = a.server.Serve(a) }()
	t.Cleanup(func() { _ = a.server.Close() })
	return a
}

func (a *answering) Issue(context.Context, *masterapi.AdmitRequest) (*masterapi.IssueResponse, error) {
	return &masterapi.IssueResponse{ViewerToken: "token"}, nil
}

func (a *answering) serve(conn net.Conn) { a.conns <- conn }

// Accept implements net.Listener.
func (a *answering) Accept() (net.Conn, error) {
	if conn, ok := <-a.conns; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}

// Close implements net.Listener.
func (a *answering) Close() error {
	close(a.conns)
	return nil
}

// Addr implements net.Listener.
func (a *answering) Addr() net.Addr { return &net.TCPAddr{} }

func issue(t *testing.T, c *Client) {
	t.Helper()
	if r, err := c.Issue(t.Context(), &masterapi.AdmitRequest{RequestId: "1"}); err != nil || r.GetViewerToken() != "token" {
		t.Fatalf("issue: %v, %v", r, err)
	}
}

// A frozen server costs a lease directTimeout, once: the repetition goes elsewhere, with pings, and teaches who leads.
func TestIssueLeavesAFrozenServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startAnswering(t, "b:1")
		c := fleet{"a:1": frozen, "b:1": b.serve}.client(t, "a:1", "b:1")
		defer c.Close()
		for n, want := range []time.Duration{directTimeout, 0, 0} {
			began := time.Now()
			issue(t, c)
			if took := time.Since(began); took != want {
				t.Errorf("call %d took %s, want %s", n, took, want)
			}
		}
		if want := []string{"HTTP/2.0", "HTTP/1.1", "HTTP/1.1"}; !slices.Equal(b.asked, want) {
			t.Errorf("the other server was asked over %v, want %v", b.asked, want)
		}
	})
}

// A connection that the server closed meanwhile, or that is old, is replaced without anybody noticing.
func TestDirectReplacesItsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, dials := startAnswering(t, "a:1"), 0
		var last net.Conn
		c := fleet{"a:1": func(conn net.Conn) { dials, last = dials+1, conn; a.serve(conn) }}.client(t, "a:1")
		defer c.Close()
		for _, step := range []struct {
			name   string
			before func()
			dials  int
		}{
			{"first", func() {}, 1},
			{"again", func() {}, 1},
			{"closed by the server", func() { _ = last.Close() }, 2},
			{"idle for long", func() { <-time.After(idleTimeout + 1) }, 3},
		} {
			step.before()
			if issue(t, c); dials != step.dials {
				t.Errorf("%s: %d connections, want %d", step.name, dials, step.dials)
			}
		}
	})
}

// A caller who gives up gets the error at once, and the connection with the late answer on it is not used again.
func TestDirectGivesUpWithItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dials := 0
		c := fleet{"a:1": func(conn net.Conn) {
			if dials++; dials > 1 {
				_ = conn.Close()
				return
			}
			r, err := http.ReadRequest(bufio.NewReader(conn))
			if err != nil {
				t.Error(err)
			}
			_, _ = io.Copy(io.Discard, r.Body)
			<-time.After(time.Second)
			_, _ = fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") // the caller is gone
		}}.client(t, "a:1")
		defer c.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		began := time.Now()
		if _, err := c.Issue(ctx, &masterapi.AdmitRequest{RequestId: "1"}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("issue: %v", err)
		}
		if took := time.Since(began); took != 500*time.Millisecond {
			t.Errorf("took %s", took)
		}
		if c.direct.idle.Load() != nil {
			t.Error("the connection is kept")
		}
		<-time.After(time.Second) // the late answer is written
	})
}
