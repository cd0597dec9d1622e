//go:build integration

package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/wavry/fleet/hostruntime/desktop"
	"github.com/wavry/fleet/hostruntime/pluginapi/framesource"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/hostruntime/pluginapi/plugintest"
	"github.com/wavry/fleet/plugins/internal/capture"
)

// Every method that a desktop without a GPU gives pictures by keeps the contract there, over real gRPC, as a real process.
func TestSwayConformance(t *testing.T)  { conformance(t, desktop.Sway, swayApp, "wlr-screencopy") }
func TestGNOMEConformance(t *testing.T) { conformance(t, desktop.GNOME, gnomeApp, "mutter") }

// A desktop of its own: what moves in the picture, foot, may not survive the monitors that sessions of Mutter bring and take (DESIGN.md).
func TestGNOMEPortalConformance(t *testing.T) { conformance(t, desktop.GNOME, gnomeApp, "portal") }

func TestKDEConformance(t *testing.T) {
	conformance(t, desktop.KDE, kdeApp, "kwin-window", "kwin-screenshot")
}

func conformance(t *testing.T, kind desktop.Kind, app []string, methods ...string) {
	inDesktop(t, kind, app, func(t *testing.T, _ inside) {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range methods {
			t.Run(m, func(t *testing.T) {
				plugintest.Capture(t, plugintest.Spec{
					Path: self, Env: append(os.Environ(), asPlugin+"=1"), Methods: []string{m}, Look: look, Slow: 3,
				})
			})
		}
	})
}

// look takes pictures of a node as an encoder would.
func look(ctx context.Context, node framesource.Node, n int) (*pluginpb.Size, time.Duration, error) {
	got, err := tryNode(ctx, func() (*os.File, error) { return dup(node.Remote) }, node.ID, capture.Size{Width: node.Width, Height: node.Height}, n, nil)
	switch {
	case err != nil:
		return nil, 0, err
	case got.frames < n || len(got.delays) < n || !got.bright:
		return nil, 0, fmt.Errorf("%d pictures of %d, %d with a time, bright: %v", got.frames, n, len(got.delays), got.bright)
	}
	size := &pluginpb.Size{Width: uint32(got.size.Width), Height: uint32(got.size.Height)}
	return size, slices.Max(got.delays), nil
}
