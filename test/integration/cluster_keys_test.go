//go:build integration

package integration

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/masterclient"
	"github.com/wavry/fleet/relay/relayclient"
	"github.com/wavry/fleet/relay/relaywire"
	"github.com/wavry/fleet/test/browser"
	"github.com/wavry/fleet/test/rig"
)

// keysUnderLoad rotates and revokes the signing key while a lease is renewed as fast as the masters can, each time verified by a
// host and a relay. Nobody is refused for a rotation. A revocation ends what the old key signed, with a word to the person, refuses
// its tokens as unknown_key, and touches nothing else.
func keysUnderLoad(t *testing.T, c *rig.Cluster, p *browser.Page) {
	m := c.Master()
	session := p.Snapshot().Session
	old, err := m.Sessions().AddViewer(t.Context(), &masterapi.AddViewerRequest{
		ViewerKey: viewerKey, RequestId: "watcher", SessionId: session, Login: "eve", ViewerId: "eve", ViewerAddress: "127.0.0.1", Role: masterapi.ViewerRole_VIEWER_ROLE_WATCH, ForceRelay: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	second := browser.New(t, 640, 480)
	second.OpenInvite(c.Invite("g2", "bob", "viewer") + "&to=/desktop/default")
	second.Live()
	l := leaseOf(t, m, second.Snapshot().Session)
	key, before := l.GetKeyId(), badLeases(c)

	load := startLoad(t, m, l.GetLeaseId())
	load.more(100)
	untouched(t, p, func() {
		// The next key may sign only after every verifier had time to learn of it.
		c.Eventually("the next key may sign", func() bool { _, err := c.TryOperator("keys", "rotate"); return err == nil })
	})
	load.more(100)
	if now := leaseOf(t, m, l.GetSessionId()).GetKeyId(); now == key {
		t.Fatalf("leases are still signed by %s", key)
	}
	if n := badLeases(c) - before; n != 0 {
		t.Errorf("relays refused %v leases for a rotation", n)
	}

	untouched(t, second, func() {
		c.Operator("keys", "revoke", key)
		p.Until("the session of the revoked key has ended", "wavry.state === 'ended'")
		load.more(100)
	})
	if text := browser.Eval[string](p, "document.body.innerText"); !strings.Contains(text, "ended") {
		t.Errorf("the person is told %q", text)
	}
	if n := badLeases(c) - before; n != 0 {
		t.Errorf("relays refused %v leases of other keys", n)
	}
	load.stop()
	t.Logf("%d renewals, none failed", load.renewals.Load())
	refused(t, c, old)
	p.Open(c.URL("g1") + "/#/account")
	p.Open(c.URL("g1") + "/#/desktop/default")
	p.Live()
}

func leaseOf(t *testing.T, m *masterclient.Client, session string) *masterapi.Lease {
	t.Helper()
	s, err := m.Sessions().GetSession(t.Context(), &masterapi.GetSessionRequest{SessionId: session})
	if err != nil || len(s.GetLeases()) == 0 {
		t.Fatalf("session %v, %v", s, err)
	}
	return s.GetLeases()[0]
}

// rejects counts the leases that the relays refused for one reason.
func rejects(c *rig.Cluster, reason string) float64 {
	label := fmt.Sprintf("reason=%q", reason)
	return c.Sum("r1", "wavry_relay_rejects_total", label) + c.Sum("r2", "wavry_relay_rejects_total", label)
}

// badLeases counts the leases that the relays found wrong. That they slow down whoever renews twenty times a second is not that.
func badLeases(c *rig.Cluster) (n float64) {
	for _, reason := range []string{"signature_mismatch", "unknown_key", "wrong_relay", "expired", "not_yet_valid", "banned", "wrong_use"} {
		n += rejects(c, reason)
	}
	return n
}

// load renews a lease without a pause until it is stopped. Any failure fails the test.
type load struct {
	t        *testing.T
	renewals atomic.Int64
	stop     func()
}

func startLoad(t *testing.T, m *masterclient.Client, leaseID string) *load {
	ctx, cancel := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	l := &load{t: t, stop: func() { cancel(); wait.Wait() }}
	for range 2 {
		wait.Go(func() {
			for ctx.Err() == nil {
				_, err := m.Leases().Renew(ctx, &masterapi.RenewRequest{LeaseId: leaseID})
				if ctx.Err() == nil && err != nil {
					t.Errorf("renew: %v", err)
					return
				}
				l.renewals.Add(1)
			}
		})
	}
	t.Cleanup(l.stop)
	return l
}

// more waits for so many more renewals.
func (l *load) more(n int64) {
	l.t.Helper()
	want, deadline := l.renewals.Load()+n, time.After(30*time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for l.renewals.Load() < want {
		select {
		case <-tick.C:
		case <-deadline:
			l.t.Fatalf("%d renewals, want %d", l.renewals.Load(), want)
		}
	}
}

// refused presents a token of a revoked key to its relay, which says why and counts it.
func refused(t *testing.T, c *rig.Cluster, g *masterapi.Grant) {
	t.Helper()
	relay, before := g.GetCandidates()[0].GetRelayId(), rejects(c, "unknown_key")
	entries, _, err := c.Consul().Health().Service("wavry-relay", "", true, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Service.Meta["id"] != relay {
			continue
		}
		public, err := base64.StdEncoding.DecodeString(e.Service.Meta["public_key"])
		if err != nil {
			t.Fatal(err)
		}
		err = bind(t, netip.MustParseAddrPort(e.Service.Meta["address"]), relaywire.PublicKey(public), g.GetViewerToken())
		var reject *relaywire.RejectError
		if !errors.As(err, &reject) || reject.Reason != relaywire.UnknownKey {
			t.Errorf("relay %s: %v, want unknown_key", relay, err)
		}
	}
	if n := rejects(c, "unknown_key") - before; n < 1 {
		t.Error("the refusal is not counted")
	}
}

// bind asks a relay for a circuit and returns how that ended.
func bind(t *testing.T, to netip.AddrPort, public relaywire.PublicKey, token string) error {
	t.Helper()
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	client, err := relayclient.New(relayclient.Config{
		Relay: to, PublicKey: public, Token: token, GiveUp: 5 * time.Second,
		Send: func(b []byte, to netip.AddrPort) error { _, err := socket.WriteToUDPAddrPort(b, to); return err },
	})
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		b := make([]byte, 2048)
		for {
			n, from, err := socket.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			client.HandlePacket(netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), b[:n], time.Now())
		}
	})
	defer wait.Wait()
	defer socket.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return client.Run(ctx)
}

// viewerKey is the thumbprint of a key that some page would hold.
const viewerKey = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
