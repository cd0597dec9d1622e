//go:build integration

package relay_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/wavry/fleet/master/lease"
)

// TestSkewedLeases proves that a relay takes leases of a master whose clock is 30 s off, either way: one that begins in the relay's
// future, and one that has ended in its past and still carries a session. The other half, a host whose clock differs, is
// TestSkewOfClocks of package relay.
func TestSkewedLeases(t *testing.T) {
	s := newSite(t)
	u := s.start(t)
	now := time.Now()
	for circuit, life := range map[uint64][2]time.Time{
		77: {now.Add(30 * time.Second), now.Add(30*time.Second + lease.Lifetime)},
		78: {now.Add(-30*time.Second - lease.Lifetime), now.Add(-30 * time.Second)},
	} {
		token, err := s.signers["k1"].SignCircuit(lease.CircuitClaims{
			Lease: "skewed-" + life[0].String()[:19], Host: "h", Relay: "r1", Circuit: circuit, NotBefore: life[0], Expiry: life[1],
			ViewerAddress: netip.MustParseAddr("127.0.0.1"),
		})
		if err != nil {
			t.Fatal(err)
		}
		h := startHost(t, u, token)
		v := dial(t, h.media)
		v.mustEcho(t, "with a clock that differs", 1<<20)
	}
}
