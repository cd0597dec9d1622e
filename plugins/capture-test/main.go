// Command wavry-capture-test is the capture plugin that needs no desktop: a moving pattern that carries a machine-readable stamp
// (package pattern) and reacts to input, for tests, measurements and nodes without a compositor. The host runtime starts it.
package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/plugins/internal/capture"
)

func main() {
	// go-plugin forwards the plugin's stderr, line by line, to the host runtime's log.
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil)).With("component", "capture-test")
	pluginapi.ServeCapturer(newPlugin(log))
}

func newPlugin(log *slog.Logger) *capture.Plugin {
	return capture.New(capture.Config{Methods: func(context.Context) []capture.Method { return []capture.Method{method{}} }, Logger: log})
}
