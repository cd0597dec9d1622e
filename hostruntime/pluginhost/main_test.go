package pluginhost

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/wavry/fleet/hostruntime/pluginapi/fakeplugin"
)

// TestMain makes this binary the fake plugin when it is started as one.
func TestMain(m *testing.M) {
	if os.Getenv(fakeplugin.EnvName) != "" || len(os.Args) == 2 && os.Args[1] == "sleep-for-ever" {
		fakeplugin.Main()
		return
	}
	if mode := os.Getenv(hostEnv); mode != "" {
		hostMain(mode)
		return
	}
	goleak.VerifyTestMain(m)
}
