package main

import (
	"os"
	"testing"

	"github.com/wavry/fleet/hostruntime/pluginapi/fakeplugin"
)

// TestMain makes this binary the fake plugin when it is started as one.
func TestMain(m *testing.M) {
	if os.Getenv(fakeplugin.EnvName) != "" {
		fakeplugin.Main()
		return
	}
	os.Exit(m.Run())
}
