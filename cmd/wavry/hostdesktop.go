package main

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/wavry/fleet/hostruntime/asroot"
	"github.com/wavry/fleet/hostruntime/desktop/claim"
)

// desktopPatience is how long a desktop may take to be there again before the host says so to the fleet: until then whoever asks for
// the host is let in a moment later.
const desktopPatience = 6 * time.Second

// hostDesktop is the desktop that a host shows, and what becomes of it between two people.
type hostDesktop struct {
	keeper *claim.Keeper // nil: nobody empties it
}

// testPicture is the capture plugin that shows no desktop.
const testPicture = "capture-test"

// oneDesktop says whether the sessions of this host would all show the same.
func (c *hostConfig) oneDesktop() bool {
	return len(c.Capture) == 0 || slices.ContainsFunc(c.Capture, showsDesktop)
}

// showsDesktop is told a capture plugin, or PLUGIN/METHOD.
func showsDesktop(capture string) bool {
	plugin, _, _ := strings.Cut(capture, "/")
	return plugin != testPicture
}

// newHostDesktop finds the supervisor in the desktop's environment (nil: ours). It returns nil for a host that shows no desktop.
func newHostDesktop(cfg hostConfig, environ []string, log *slog.Logger) *hostDesktop {
	if !cfg.oneDesktop() {
		return nil
	}
	path := lookupEnviron(environ, claim.EnvVar)
	if path == "" {
		if !cfg.KeepDesktop {
			log.Warn("whoever comes next finds what the last person left: this desktop has no supervisor that empties it; see wavry desktop run")
		}
		return &hostDesktop{}
	}
	return &hostDesktop{keeper: claim.NewKeeper(path, cfg.KeepDesktop, log.With("component", "claim"))}
}

// lookupEnviron finds a variable (nil: in ours); of several the last one holds.
func lookupEnviron(environ []string, name string) (value string) {
	if environ == nil {
		return os.Getenv(name)
	}
	for _, kv := range environ {
		if key, v, _ := strings.Cut(kv, "="); key == name {
			value = v
		}
	}
	return value
}

// Why implements hostruntime.Desktop.
func (d *hostDesktop) Why() error {
	if d == nil || d.keeper == nil {
		return nil
	}
	return d.keeper.Why()
}

// Release implements hostruntime.Desktop.
func (d *hostDesktop) Release() {
	if d.keeper != nil {
		d.keeper.Release()
	}
}

// overdue is Why when it has been so for so long that somebody should know.
func (d *hostDesktop) overdue() error {
	if d == nil || d.keeper == nil {
		return nil
	}
	return d.keeper.Overdue(desktopPatience)
}

// run claims the desktop until ctx ends.
func (d *hostDesktop) run(ctx context.Context) {
	if d != nil && d.keeper != nil {
		d.keeper.Run(ctx)
	}
}

// claimed waits until the desktop was there once; false when ctx ended before.
func (d *hostDesktop) claimed(ctx context.Context) bool {
	return d == nil || d.keeper == nil || opened(ctx, d.keeper.First())
}

// The values of masterapi.AttributeDesktop.
const (
	desktopEmptied = "emptied"
	desktopKept    = "kept"
)

// word says what the next person finds; empty without a desktop.
func (d *hostDesktop) word() string {
	switch {
	case d == nil:
		return ""
	case d.keeper == nil || d.keeper.Kept():
		return desktopKept
	}
	return desktopEmptied
}

// readDesktopFile reads the environment of a desktop. Root reads only what root wrote: it says who runs plugins and whom to ask for
// the desktop.
func readDesktopFile(path string) ([]byte, error) { return asroot.ReadFile(path) }
