package main

import (
	"log/slog"

	"github.com/wavry/fleet/plugins/internal/capture"
)

// portalMethods are the methods that hand over a PipeWire node or poll KWin: portal, mutter, kwin-*.
func portalMethods(s session, log *slog.Logger) []capture.Method {
	return []capture.Method{
		&portalMethod{session: s, log: log},
		&mutter{session: s, log: log},
		&kwinCast{session: s, log: log},
		&kwinCast{session: s, log: log, window: true},
		&kwinShot{session: s, log: log},
	}
}
