package pipeline

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/wavry/fleet/hostruntime/pluginapi/fakeplugin"
)

// TestMain makes this binary the fake plugin when it is started as one.
func TestMain(m *testing.M) {
	if os.Getenv(fakeplugin.EnvName) != "" {
		fakeplugin.Main()
		return
	}
	goleak.VerifyTestMain(m)
}
