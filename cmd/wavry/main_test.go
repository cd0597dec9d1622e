package main

import (
	"os"
	"testing"

	"github.com/wavry/fleet/hostruntime/pluginapi/fakeplugin"
)

// runEnv makes this binary wavry itself.
const runEnv = "WAVRY_TEST_RUN"

// TestMain makes this binary the fake plugin, or wavry, when it is started as one.
func TestMain(m *testing.M) {
	if os.Getenv(fakeplugin.EnvName) != "" {
		fakeplugin.Main()
		return
	}
	if os.Getenv(runEnv) != "" {
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}
