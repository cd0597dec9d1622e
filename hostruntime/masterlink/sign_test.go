package masterlink

import (
	"crypto/ed25519"
	"crypto/rand"
	"testing"
	"time"

	"github.com/wavry/fleet/master/lease"
	"github.com/wavry/fleet/master/masterapi"
)

// signed gives a command a token that the link's key set verifies.
func signed(t *testing.T, l *Link, p *masterapi.Prepare) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := lease.NewSigner("k1", private)
	if err != nil {
		t.Fatal(err)
	}
	l.setKeys(&masterapi.KeySet{Version: 1, Keys: []*masterapi.PublicKey{{KeyId: "k1", PublicKey: public}}})
	p.ViewerToken, err = signer.SignViewer(lease.ViewerClaims{
		Lease: p.GetLeaseId(), Session: p.GetSessionId(), Host: "h1", Viewer: p.GetViewerId(), Role: lease.RoleControl, Key: lease.Confirmation{Thumbprint: viewerKey},
		NotBefore: time.Now(), Expiry: p.GetExpiry().AsTime(),
	})
	if err != nil {
		t.Fatal(err)
	}
}

// viewerKey is the thumbprint of a key that some page would hold.
const viewerKey = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
