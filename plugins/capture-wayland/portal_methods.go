package main

import (
	"log/slog"

	"github.com/wavry/fleet/plugins/internal/capture"
)

// portalMethods are the methods that hand over a PipeWire node or poll KWin: portal, mutter, kwin-*.
func portalMethods(session, *slog.Logger) []capture.Method { return nil }
