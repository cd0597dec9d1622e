package encode

import (
	"log/slog"
	"os"
	"runtime"

	"github.com/wavry/fleet/hostruntime/pluginapi"
)

// Serve is a plugin's main: it runs until the host runtime is done with it.
//
// Go's part of an encoder is one thing after the other per picture; the work is done on GStreamer's threads. With more than one
// processor Go's scheduler wakes threads only to look for work: 0.75 ms of CPU per picture against 0.5 ms with one (measured
// 2026-11-23, 2 cores, 720p at 60 pictures per second). The environment's GOMAXPROCS still wins.
func Serve(cfg Config) {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(1)
	}
	cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	pluginapi.ServeEncoder(New(cfg))
}
