package masterclient

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/wavry/fleet/master/lease"
	"github.com/wavry/fleet/master/masterapi"
)

// Verifier verifies leases offline with the last key set and revocations the master published. It is safe for concurrent use; Verify takes no
// lock.
type Verifier struct {
	path  string
	state atomic.Pointer[verifierState]
}

type verifierState struct {
	version uint64
	keys    *lease.KeySet
	revoked map[string]struct{}
}

// NewVerifier returns a verifier. When path is not empty the key set is kept in that file, so that a restart while the master is away still
// verifies; an unreadable file is an error, a missing one is not.
func NewVerifier(path string) (*Verifier, error) {
	v := &Verifier{path: path}
	empty, err := lease.NewKeySet()
	if err != nil {
		return nil, err
	}
	v.state.Store(&verifierState{keys: empty})
	if path == "" {
		return v, nil
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return v, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read key set: %w", err)
	}
	var saved masterapi.KeySet
	if err := json.Unmarshal(data, &saved); err != nil {
		return nil, fmt.Errorf("read key set %s: %w", path, err)
	}
	return v, v.load(&saved)
}

// SetKeys takes a newer key set; an older one than the present is ignored. The file, if any, is replaced whole.
func (v *Verifier) SetKeys(set *masterapi.KeySet) error {
	if set == nil || set.GetVersion() < v.state.Load().version {
		return nil
	}
	if err := v.load(set); err != nil || v.path == "" {
		return err
	}
	data, err := json.Marshal(set)
	if err != nil {
		return fmt.Errorf("encode key set: %w", err)
	}
	return replaceFile(v.path, data)
}

func (v *Verifier) load(set *masterapi.KeySet) error {
	keys := make([]lease.Key, 0, len(set.GetKeys()))
	for _, k := range set.GetKeys() {
		keys = append(keys, lease.Key{ID: k.GetKeyId(), Public: k.GetPublicKey()})
	}
	fresh, err := lease.NewKeySet(keys...)
	if err != nil {
		return err
	}
	v.swap(func(s *verifierState) { s.keys, s.version = fresh, set.GetVersion() })
	return nil
}

// SetRevocations replaces the list of revoked leases. Revoked keys need no list: they leave the key set.
func (v *Verifier) SetRevocations(r *masterapi.Revocations) {
	revoked := make(map[string]struct{}, len(r.GetLeaseIds()))
	for _, id := range r.GetLeaseIds() {
		revoked[id] = struct{}{}
	}
	v.swap(func(s *verifierState) { s.revoked = revoked })
}

func (v *Verifier) swap(change func(*verifierState)) {
	for {
		old := v.state.Load()
		fresh := *old
		change(&fresh)
		if v.state.CompareAndSwap(old, &fresh) {
			return
		}
	}
}

// Ready reports whether any key is known.
func (v *Verifier) Ready() bool { return len(v.state.Load().keys.Keys()) > 0 }

// KeySet is the present key set.
func (v *Verifier) KeySet() *lease.KeySet { return v.state.Load().keys }

// VerifyViewer returns the claims of a viewer's token that holds at now, or the reason why it does not.
func (v *Verifier) VerifyViewer(token string, now time.Time) (lease.ViewerClaims, masterapi.Reason) {
	s := v.state.Load()
	claims, err := s.keys.VerifyViewer(token, now)
	if err != nil {
		return lease.ViewerClaims{}, RejectReason(err)
	}
	if _, hit := s.revoked[claims.Lease]; hit {
		return lease.ViewerClaims{}, masterapi.Reason_REASON_LEASE_REVOKED
	}
	return claims, masterapi.Reason_REASON_UNSPECIFIED
}

// RejectReason maps the errors of package lease to reasons; a malformed token is a signature mismatch, since nothing vouches for it.
func RejectReason(err error) masterapi.Reason {
	switch {
	case err == nil:
		return masterapi.Reason_REASON_UNSPECIFIED
	case errors.Is(err, lease.ErrUnknownKey):
		return masterapi.Reason_REASON_UNKNOWN_KEY
	case errors.Is(err, lease.ErrWrongUse):
		return masterapi.Reason_REASON_WRONG_USE
	case errors.Is(err, lease.ErrExpired):
		return masterapi.Reason_REASON_EXPIRED
	case errors.Is(err, lease.ErrNotYetValid):
		return masterapi.Reason_REASON_NOT_YET_VALID
	default:
		return masterapi.Reason_REASON_SIGNATURE_MISMATCH
	}
}

func replaceFile(path string, data []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write key set: %w", err)
	}
	_, err = file.Write(data)
	err = errors.Join(err, file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write key set: %w", err), os.Remove(file.Name()))
	}
	return nil
}
