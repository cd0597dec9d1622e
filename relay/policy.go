package relay

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/wavry/fleet/master/lease"
	"github.com/wavry/fleet/relay/relaywire"
)

// leaseSkew is how far clocks may differ before an end of a lease is taken at its word.
const leaseSkew = lease.Skew

// Policy is everything a relay is told from above. It is complete each time: what it does not say does not hold.
type Policy struct {
	// Keys are the public keys that may have signed leases. None: the relay is not ready and keeps the last ones it had.
	Keys []lease.Key
	// Revoked lists ids of leases that are void although they have not ended.
	Revoked []string
	// BannedHosts are host ids that get no circuit.
	BannedHosts []string
	// BannedSources are addresses from which nobody may bind or begin.
	BannedSources []netip.Prefix
	// Draining asks the relay to take no new circuit and to tell its hosts to leave until DrainBy.
	Draining bool
	DrainBy  time.Time
}

// Control is the relay's link to whoever decides: the master, or a file.
type Control interface {
	// Follow calls apply with each policy, the first as soon as there is one, until ctx ends; then it returns nil. It retries
	// by itself: an error means that it never can work. It may ask self again and again.
	Follow(ctx context.Context, self func() Self, apply func(Policy) error) error
	// Circuit tells that a circuit began or ended. It must not block.
	Circuit(CircuitEvent)
	// Report hands over the load. It must not block for long; a failed report is only logged, the next one replaces it.
	Report(ctx context.Context, load Load) error
}

// Self is what a relay says about itself when it introduces itself.
type Self struct {
	RelayID, Region, Version string
	PublicKey                relaywire.PublicKey
	ControlAddr              netip.AddrPort // advertised
	MaxCircuits              int
	CapacityBits             uint64
	Draining                 bool // by its own wish
	Successor                bool // it took over from a predecessor
}

// CircuitEvent is the beginning or the end of a circuit.
type CircuitEvent struct {
	Circuit uint64
	Lease   string
	Ended   bool
	// The following are about an end. Cause is one of the labels of wavry_relay_circuits_ended_total.
	Cause          string
	Succeeded      bool // data went both ways
	Bytes, Packets uint64
	Age            time.Duration
}

// Load is what a relay reports about itself.
type Load struct {
	RelayID, Region, Version string
	Time                     time.Time
	Circuits, MaxCircuits    int
	// BitsPerSecond and PacketsPerSecond are what was forwarded since the previous report.
	BitsPerSecond, PacketsPerSecond float64
	CapacityBits                    uint64
	Pinned, Bound                   uint64 // viewers and hosts that arrived, since start
	Succeeded, Failed               uint64 // circuits that ended with and without data both ways, since start
	Drops, Rejects                  map[string]uint64
	Ready, Draining                 bool
	Leaving                         bool    // draining by its own wish, because it is being stopped
	Overloaded                      bool    // at its limit of circuits or bandwidth
	CPU                             float64 // share of the cores it may use, 0 to 1; 0 where that is not known
	Cause                           string  // why it is not ready
	KeyIDs                          []string
}

// policy is a Policy made ready for look-ups. It never changes.
type policy struct {
	keys          *lease.KeySet
	revoked       map[string]struct{}
	bannedHosts   map[string]struct{}
	bannedSources []netip.Prefix
	draining      bool
	drainBy       time.Time
}

// compile checks p. Without keys it keeps those of last: a master that has lost its keys must not stop relays that still know them.
func (p Policy) compile(last *policy) (*policy, error) {
	if len(p.Revoked) > maxRevoked || len(p.BannedHosts)+len(p.BannedSources) > maxBans {
		return nil, fmt.Errorf("policy has %d revoked leases and %d bans, at most %d and %d",
			len(p.Revoked), len(p.BannedHosts)+len(p.BannedSources), maxRevoked, maxBans)
	}
	c := &policy{
		keys: last.keys, revoked: set(p.Revoked), bannedHosts: set(p.BannedHosts), bannedSources: p.BannedSources,
		draining: p.Draining, drainBy: p.DrainBy,
	}
	if len(p.Keys) > 0 && !sameKeys(p.Keys, last.keys) { // the same set stays the same object: verified leases are remembered by it
		keys, err := lease.NewKeySet(p.Keys...)
		if err != nil {
			return nil, fmt.Errorf("policy: %w", err)
		}
		c.keys = keys
	}
	return c, nil
}

func sameKeys(keys []lease.Key, have *lease.KeySet) bool {
	return have != nil && slices.EqualFunc(keys, have.Keys(), func(a, b lease.Key) bool { return a.ID == b.ID && a.Public.Equal(b.Public) })
}

func set(list []string) map[string]struct{} {
	m := make(map[string]struct{}, len(list))
	for _, s := range list {
		m[s] = struct{}{}
	}
	return m
}

func (p *policy) bannedAddr(a netip.Addr) bool {
	for _, prefix := range p.bannedSources {
		if prefix.Contains(a) {
			return true
		}
	}
	return false
}

func (p *policy) isRevoked(id string) bool {
	_, yes := p.revoked[id]
	return yes
}

func (p *policy) bannedHost(id string) bool {
	_, yes := p.bannedHosts[id]
	return yes
}

// keyIDs lists the ids of the signing keys.
func (p *policy) keyIDs() []string {
	if p.keys == nil {
		return nil
	}
	var ids []string
	for _, k := range p.keys.Keys() {
		ids = append(ids, k.ID)
	}
	return ids
}

// enforce puts p in force and ends what it forbids. It returns the number of circuits ended.
func (c *core) enforce(p *policy, now int64) (ended int) {
	c.policy.Store(p)
	if len(p.revoked) == 0 && len(p.bannedHosts) == 0 && len(p.bannedSources) == 0 {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ci := range c.circuits {
		if p.forbids(ci) {
			c.close(ci, endRevoked, now)
			ended++
		}
	}
	return ended
}

func (p *policy) forbids(ci *circuit) bool {
	if p.isRevoked(ci.lease) || p.bannedHost(ci.hostID) || p.bannedAddr(ci.host.Load().key.addr()) {
		return true
	}
	v := ci.viewer.Load()
	return v != nil && p.bannedAddr(v.key.addr())
}
