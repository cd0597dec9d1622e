package hostruntime_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/wavry/fleet/hostruntime"
	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/proof"
	"github.com/wavry/fleet/hostruntime/streamwire"
	"github.com/wavry/fleet/hostruntime/transport"
	"github.com/wavry/fleet/master/lease"
)

var hello = streamwire.Hello{Version: streamwire.Version, Codecs: []media.Codec{media.CodecH264}}

// Whoever has the whole grant and not the page's key is nobody to a host: a real viewer's token, shown over real QUIC, opens no picture, no input and
// no take-over, whatever is said after it. Each attempt is counted by what was wrong with it, and the owner notices nothing.
func TestTokenWithoutItsKeyOpensNothing(t *testing.T) {
	registry := prometheus.NewRegistry()
	r := newRig(t, func(c *hostruntime.Config) { c.Registry = registry })
	token := r.token(func(c *lease.ViewerClaims) { c.Lease = "l1" })
	p := r.prepare(token)
	owner := r.connectAs(token, p, hello)
	expect[*streamwire.Welcome](owner)
	fresh := r.token(func(c *lease.ViewerClaims) { c.Lease, c.Expiry = "l1", c.Expiry.Add(time.Minute) }) // renewed: the same lease and key
	watcher := r.token(func(c *lease.ViewerClaims) {
		c.Lease, c.Viewer, c.Role = "l2", "v2", lease.RoleWatch
	})
	r.prepare(watcher)
	thief, err := proof.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	otherHost, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	identity := r.host.Identity()
	// What the owner's page said on an earlier connection of its own; whoever saw it says it again.
	_, old := r.challenged(token, p)
	used := prove(t, old, identity, token, r.key)
	for _, c := range []struct {
		name, result string
		say          func(challenge *streamwire.Challenge) streamwire.Message
	}{
		{"with a key of the thief's", "key", func(c *streamwire.Challenge) streamwire.Message { return prove(t, c, identity, token, thief) }},
		{"with the owner's key and the thief's signature", "signature", func(c *streamwire.Challenge) streamwire.Message {
			m, public := prove(t, c, identity, token, thief), r.key.Public()
			m.Key = public[:]
			return m
		}},
		{"with a proof that was used before", "signature", func(*streamwire.Challenge) streamwire.Message { return used }},
		{"with a proof for another host", "signature", func(c *streamwire.Challenge) streamwire.Message { return prove(t, c, otherHost, token, r.key) }},
		{"with a proof for another token of the lease", "signature", func(c *streamwire.Challenge) streamwire.Message { return prove(t, c, identity, fresh, r.key) }},
		{"with a proof for another lease", "signature", func(c *streamwire.Challenge) streamwire.Message { return prove(t, c, identity, watcher, r.key) }},
		{"with a proof of noughts", "key", func(*streamwire.Challenge) streamwire.Message {
			return &streamwire.Proof{Key: make([]byte, proof.KeyLen), Signature: make([]byte, proof.SignatureLen)}
		}},
		{"with another message instead", "none", func(*streamwire.Challenge) streamwire.Message { return &streamwire.Keyframe{} }},
		{"with a goodbye", "none", func(*streamwire.Challenge) streamwire.Message { return &streamwire.Bye{Code: streamwire.CodeEnded} }},
	} {
		before := counted(t, registry, c.result)
		v, challenge := r.challenged(token, p)
		v.send(&hello)
		v.press(30)
		v.send(c.say(challenge))
		if bye := expect[*streamwire.Bye](v); bye.Code != streamwire.CodeProof {
			t.Errorf("%s: bye %+v", c.name, bye)
		}
		v.gotNothing(c.name)
		if got := counted(t, registry, c.result) - before; got != 1 {
			t.Errorf("%s: counted %v times as %s", c.name, got, c.result)
		}
	}
	// Silence ends with the deadline.
	silent, _ := r.challenged(token, p)
	silent.send(&hello)
	select {
	case <-silent.Done():
	case <-time.After(20 * time.Second):
		t.Error("who proves nothing stays connected")
	}
	silent.gotNothing("silent")
	if infos := r.host.Sessions(); len(infos) != 1 || infos[0].Viewers != 1 {
		t.Errorf("sessions %+v", infos)
	}
	r.source.emit(true, "key")
	if _, data := owner.unit(); data != "key" {
		t.Errorf("the owner got %q", data)
	}
	r.source.mu.Lock()
	defer r.source.mu.Unlock()
	if len(r.source.input) != 0 {
		t.Errorf("a thief's input arrived: %v", r.source.input)
	}
}

// Those who hold places without proving anything lose them to newer ones, of their own lease first: with its token, nobody keeps the owner out.
func TestUnprovenMakeRoom(t *testing.T) {
	registry := prometheus.NewRegistry()
	r := newRig(t, func(c *hostruntime.Config) { c.Registry = registry })
	token := r.token(nil)
	p := r.prepare(token)
	var held []*viewer
	for range 12 {
		v, _ := r.challenged(token, p)
		held = append(held, v)
	}
	for _, v := range held[:4] {
		select {
		case <-v.Done():
		case <-time.After(10 * time.Second):
			t.Fatal("more than eight connections of one lease have proven nothing")
		}
	}
	if n := counted(t, registry, "crowded"); n < 4 {
		t.Errorf("%v counted as crowded", n)
	}
	expect[*streamwire.Welcome](r.connectAs(token, p, hello))
}

// challenged is a connection with a token to which nothing was said yet.
func (r *rig) challenged(token string, p hostruntime.Prepared) (*viewer, *streamwire.Challenge) {
	r.t.Helper()
	conn, err := r.dial(token, p)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	control, challenge, err := conn.Control(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return &viewer{ViewerConn: conn, t: r.t, control: control, messages: streamwire.NewMessageReader(control)}, challenge
}

// press sends a key on the input stream and a motion beside it, as a viewer in control does.
func (v *viewer) press(code uint16) {
	v.t.Helper()
	input, err := v.OpenInput(v.t.Context())
	if err != nil {
		v.t.Fatal(err)
	}
	if _, err := input.Write(streamwire.AppendMessage(nil, &streamwire.Key{ID: 1, Code: code, Down: true})); err != nil {
		v.t.Fatal(err)
	}
	if err := v.SendDatagram(streamwire.AppendMotionAbsolute(nil, streamwire.MotionAbsolute{ID: 1, X: 9})); err != nil {
		v.t.Fatal(err)
	}
}

// gotNothing says that a connection was cut, with no picture and no message left on it.
func (v *viewer) gotNothing(name string) {
	v.t.Helper()
	if m, err := v.messages.Next(); err == nil {
		v.t.Errorf("%s: the host also said %T", name, m)
	} else if errors.Is(err, io.ErrUnexpectedEOF) {
		v.t.Errorf("%s: %v", name, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if h, _, err := v.AcceptUnit(ctx); err == nil || ctx.Err() != nil {
		v.t.Errorf("%s: a picture %+v, or the connection stays: %v", name, h, err)
	}
}

func prove(t *testing.T, c *streamwire.Challenge, identity []byte, token string, key *proof.Key) *streamwire.Proof {
	t.Helper()
	m, err := transport.Prove(c, identity, token, key)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// counted is wavry_host_viewer_proofs_total of one result.
func counted(t *testing.T, registry *prometheus.Registry, result string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "wavry_host_viewer_proofs_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == result {
				return m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("no counter for %s", result)
	return 0
}
