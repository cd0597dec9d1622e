// Command wavry-capture-wayland is the capture plugin for Wayland desktops. The host runtime starts it; see package pluginapi.
package main

import (
	"log/slog"
	"os"

	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/plugins/internal/capture"
)

func main() {
	// go-plugin forwards the plugin's stderr, line by line, to the host runtime's log.
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil)).With("component", "capture-wayland")
	s := sessionFromEnvironment(os.LookupEnv)
	pluginapi.ServeCapturer(capture.New(capture.Config{Methods: methods(s, log), Logger: log}))
}
