package master

import (
	"crypto/ed25519"
	"fmt"
	"sync"
	"time"

	"github.com/wavry/fleet/master/lease"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/seal"
	"github.com/wavry/fleet/master/state"
)

// keyring opens sealed signing keys and signs. It is safe for concurrent use.
type keyring struct {
	kek *seal.KEK

	mu      sync.RWMutex // guards the following
	signers map[string]*lease.Signer
}

func newKeyring(kek *seal.KEK) *keyring {
	return &keyring{kek: kek, signers: map[string]*lease.Signer{}}
}

// make returns a new sealed key as the command that adds it.
func (k *keyring) make() (state.AddKey, error) {
	if k.kek == nil {
		return state.AddKey{}, masterapi.Refuse(masterapi.Reason_REASON_NO_SIGNING_KEY, "no key-encryption key is configured")
	}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return state.AddKey{}, fmt.Errorf("make signing key: %w", err)
	}
	id := "k-" + deriveID("key", string(public))[:16]
	sealed, err := k.kek.Seal(id, private)
	if err != nil {
		return state.AddKey{}, err
	}
	return state.AddKey{ID: id, Public: string(public), Sealed: sealed}, nil
}

// signer returns the signer of a key, opened once.
func (k *keyring) signer(key *state.Key) (*lease.Signer, error) {
	if key == nil {
		return nil, masterapi.Refuse(masterapi.Reason_REASON_NO_SIGNING_KEY, "the cluster has no signing key yet").After(retrySoon)
	}
	k.mu.RLock()
	s := k.signers[key.ID]
	k.mu.RUnlock()
	if s != nil {
		return s, nil
	}
	return k.open(key)
}

func (k *keyring) open(key *state.Key) (*lease.Signer, error) {
	if k.kek == nil {
		return nil, masterapi.Refuse(masterapi.Reason_REASON_NO_SIGNING_KEY, "no key-encryption key is configured")
	}
	private, err := k.kek.Open(key.ID, key.Sealed, ed25519.PublicKey(key.Public))
	if err != nil {
		return nil, masterapi.Refuse(masterapi.Reason_REASON_NO_SIGNING_KEY, "%v", err)
	}
	s, err := lease.NewSigner(key.ID, private)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.signers[key.ID] = s
	return s, nil
}

// forget drops the signers of keys that do not sign any more.
func (k *keyring) forget(keep func(id string) bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for id := range k.signers {
		if !keep(id) {
			delete(k.signers, id)
		}
	}
}

// viewerClaims are those of the token for a lease's viewer, made at now.
func viewerClaims(l *state.Lease, now time.Time) lease.ViewerClaims {
	role := lease.RoleControl
	if l.Role == masterapi.ViewerRole_VIEWER_ROLE_WATCH {
		role = lease.RoleWatch
	}
	return lease.ViewerClaims{
		Lease: l.ID, Session: l.Session, Host: l.Host, Viewer: l.Viewer, Role: role, Key: lease.Confirmation{Thumbprint: l.ViewerKey},
		NotBefore: now, Expiry: l.Expiry.Time(),
	}
}

// circuitClaims are those of the token for the host and the relay of a lease's circuit, made at now.
func circuitClaims(l *state.Lease, hostIdentity string, now time.Time) lease.CircuitClaims {
	return lease.CircuitClaims{
		Lease: l.ID, Host: l.Host, HostIdentity: []byte(hostIdentity), Relay: l.Relay, Circuit: l.Circuit, Region: l.Region,
		ViewerAddress: parseAddress(l.Address), NotBefore: now, Expiry: l.Expiry.Time(), RateLimit: l.Rate,
	}
}
