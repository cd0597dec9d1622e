package relay

import (
	"crypto/ecdh"
	"errors"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/crypto/blake2s"

	"github.com/wavry/fleet/master/lease"
	"github.com/wavry/fleet/relay/relaywire"
)

// grant is what the relay needs of a verified lease.
type grant struct {
	lease, host string
	circuit     uint64
	rate        uint64
	viewer      netip.Addr
	hostKey     *relaywire.PublicKey // nil: the lease names no identity
	notBefore   time.Time
	expiry      time.Time
}

// verifier opens BINDs and checks their leases. It is safe for concurrent use; the number of its callers bounds what it costs.
type verifier struct {
	relayID string
	private *ecdh.PrivateKey
	public  relaywire.PublicKey

	mu     sync.Mutex
	hosts  map[relaywire.PublicKey]relaywire.Key
	leases map[[32]byte]*grant
	keys   *lease.KeySet // those that leases was verified with
}

func newVerifier(relayID string, private *ecdh.PrivateKey) *verifier {
	return &verifier{
		relayID: relayID, private: private, public: relaywire.PublicKey(private.PublicKey().Bytes()),
		hosts: map[relaywire.PublicKey]relaywire.Key{}, leases: map[[32]byte]*grant{},
	}
}

// open opens a BIND that passed admission. ok is false when it was not sealed for this relay.
func (v *verifier) open(p []byte, b *relaywire.Bind) (token string, shared relaywire.Key, ok bool) {
	v.mu.Lock()
	shared, known := v.hosts[b.HostKey]
	v.mu.Unlock()
	if !known {
		var err error
		if shared, err = relaywire.SharedKey(v.private, b.HostKey, v.public, b.HostKey); err != nil {
			return "", relaywire.Key{}, false
		}
	}
	token, ok = relaywire.OpenToken(p, b, &shared)
	return token, shared, ok
}

// remember caches the shared key of a host whose lease was good, so that strangers cannot push hosts out.
func (v *verifier) remember(host relaywire.PublicKey, shared relaywire.Key) {
	v.mu.Lock()
	defer v.mu.Unlock()
	makeRoom(v.hosts, hostCache)
	v.hosts[host] = shared
}

// check verifies a token against keys at now. On refusal the reason is not 0.
func (v *verifier) check(token string, keys *lease.KeySet, now time.Time) (*grant, relaywire.Reason) {
	sum := blake2s.Sum256([]byte(token))
	v.mu.Lock()
	if v.keys != keys { // a key may be gone, and what it signed with it
		v.keys, v.leases = keys, map[[32]byte]*grant{}
	}
	g := v.leases[sum]
	v.mu.Unlock()
	if g == nil {
		var reason relaywire.Reason
		if g, reason = v.verify(token, keys, now); reason != 0 {
			return nil, reason
		}
		v.mu.Lock()
		if v.keys == keys {
			makeRoom(v.leases, leaseCache)
			v.leases[sum] = g
		}
		v.mu.Unlock()
	}
	return g, g.checkTime(now)
}

func (v *verifier) verify(token string, keys *lease.KeySet, now time.Time) (*grant, relaywire.Reason) {
	if keys == nil {
		return nil, relaywire.UnknownKey
	}
	c, err := keys.VerifyCircuit(token, now)
	if err != nil {
		return nil, reasonOf(err)
	}
	if c.Relay != v.relayID {
		return nil, relaywire.WrongRelay
	}
	g := &grant{
		lease: c.Lease, host: c.Host, circuit: c.Circuit, rate: c.RateLimit, viewer: c.ViewerAddress.Unmap(),
		notBefore: c.NotBefore, expiry: c.Expiry,
	}
	if len(c.HostIdentity) > 0 {
		key, err := relaywire.PublicFromIdentity(c.HostIdentity)
		if err != nil {
			return nil, relaywire.SignatureMismatch
		}
		g.hostKey = &key
	}
	return g, 0
}

func (g *grant) checkTime(now time.Time) relaywire.Reason {
	switch {
	case now.After(g.expiry.Add(leaseSkew)):
		return relaywire.Expired
	case now.Add(leaseSkew).Before(g.notBefore):
		return relaywire.NotYetValid
	}
	return 0
}

// reasonOf maps the lease package's sentinels to reasons. What is not a token of ours has no signature that fits.
func reasonOf(err error) relaywire.Reason {
	switch {
	case errors.Is(err, lease.ErrUnknownKey):
		return relaywire.UnknownKey
	case errors.Is(err, lease.ErrWrongUse):
		return relaywire.WrongUse
	case errors.Is(err, lease.ErrExpired):
		return relaywire.Expired
	case errors.Is(err, lease.ErrNotYetValid):
		return relaywire.NotYetValid
	default:
		return relaywire.SignatureMismatch
	}
}

// makeRoom removes any entry of a full cache: which one does not matter much, and Go's map order is as good as random.
func makeRoom[K comparable, V any](m map[K]V, limit int) {
	if len(m) < limit {
		return
	}
	for k := range m {
		delete(m, k)
		return
	}
}
