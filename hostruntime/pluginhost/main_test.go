package pluginhost

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/wavry/fleet/hostruntime/pluginapi/fakeplugin"
)

// TestMain makes this binary the fake plugin when it is started as one.
func TestMain(m *testing.M) {
	if text := os.Getenv(racerEnv); text != "" {
		racerMain(text)
		return
	}
	if text := os.Getenv(evilEnv); text != "" {
		evilMain(text)
		return
	}
	if os.Getenv(fakeplugin.EnvName) != "" {
		fakeplugin.Main()
		return
	}
	if mode := os.Getenv(hostEnv); mode != "" {
		hostMain(mode)
		return
	}
	goleak.VerifyTestMain(m)
}
