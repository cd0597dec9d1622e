package main

import (
	"log/slog"

	"github.com/wavry/fleet/plugins/internal/capture"
)

func wlrMethods(session, *slog.Logger) []capture.Method { return nil }
