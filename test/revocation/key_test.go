package revocation

import (
	"context"
	"testing"

	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/hostruntime/streamwire"
	"github.com/wavry/fleet/hostruntime/transport"
)

// pageKey is what a page proves to be itself with.
type pageKey struct{}

func newKey(*testing.T) pageKey { return pageKey{} }

func (pageKey) name(*signalapi.Connect) {}

func (pageKey) greet(ctx context.Context, conn *transport.ViewerConn, hello *streamwire.Hello, _ []byte) error {
	control, err := conn.OpenControl(ctx)
	if err == nil {
		_, err = control.Write(streamwire.AppendMessage(nil, hello))
	}
	return err
}
