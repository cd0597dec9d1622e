package relay

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/wavry/fleet/relay/relayclient"
)

// TestCircuit proves the whole life of a circuit on both data paths: bind, pin, data both ways, renewal, release.
func TestCircuit(t *testing.T) {
	paths(t, func(t *testing.T, path string) {
		i := newIssuer(t, "k1")
		u := startTrusting(t, i, func(c *Config) { c.DataPath = path })
		h := newHost(t, u, i.sign(t, testClaims(77)), nil)
		bound := h.await(t, relayclient.Bound)
		if want := h.conn.LocalAddr().String(); bound.Observed.String() != want {
			t.Errorf("observed %v, is %v", bound.Observed, want)
		}
		viewer := listenUDP(t)
		first := initial(1200)
		write(t, viewer, first, bound.Media)
		if d := h.receive(t); !bytes.Equal(d.b, first) || d.from != bound.Media {
			t.Errorf("host got %d bytes from %v", len(d.b), d.from)
		}
		h.await(t, relayclient.Pinned)
		if err := h.send([]byte("\x41hello"), bound.Media); err != nil {
			t.Fatal(err)
		}
		if d := read(t, viewer); string(d.b) != "\x41hello" || d.from != bound.Media {
			t.Errorf("viewer got %q from %v", d.b, d.from)
		}
		later := testClaims(77)
		later.Expiry = later.Expiry.Add(time.Hour)
		if err := h.client.UpdateToken(i.sign(t, later)); err != nil {
			t.Fatal(err)
		}
		if e := h.await(t, relayclient.Renewed); e.Expiry.Sub(bound.Expiry) < 50*time.Minute {
			t.Errorf("renewed until %v, was %v", e.Expiry, bound.Expiry)
		}
		h.client.Release()
		if err := <-h.result; !errors.Is(err, relayclient.ErrReleased) {
			t.Errorf("Run: %v", err)
		}
		h.result <- nil
		eventually(t, "circuit gone", func() bool { return u.Circuits() == 0 })
	})
}
