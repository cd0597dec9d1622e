package revocation

import (
	"context"
	"testing"

	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/hostruntime/proof"
	"github.com/wavry/fleet/hostruntime/streamwire"
	"github.com/wavry/fleet/hostruntime/transport"
)

// pageKey is what a page proves to be itself with.
type pageKey struct{ *proof.Key }

func newKey(t *testing.T) pageKey {
	t.Helper()
	k, err := proof.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return pageKey{k}
}

func (k pageKey) name(c *signalapi.Connect) { c.Key = k.Thumbprint() }

func (k pageKey) greet(ctx context.Context, conn *transport.ViewerConn, hello *streamwire.Hello, identity []byte) error {
	_, err := conn.Greet(ctx, hello, identity, k.Key)
	return err
}
