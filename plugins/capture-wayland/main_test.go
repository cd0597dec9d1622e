package main

import (
	"log/slog"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// asPlugin makes this binary the plugin itself, so that the conformance suite needs no build.
const asPlugin = "WAVRY_TEST_AS_PLUGIN"

func TestMain(m *testing.M) {
	if os.Getenv(asPlugin) != "" {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

var discard = slog.New(slog.DiscardHandler)
