package plugintest

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

func fake(t *testing.T, b fakeplugin.Behaviour) Spec {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Spec{Path: self, Env: append(os.Environ(), b.Env()), Moving: true}
}

// TestFakeCapture proves that the fake capturer is correct as long as it is told nothing else.
func TestFakeCapture(t *testing.T) { Capture(t, fake(t, fakeplugin.Behaviour{Role: "capture"})) }

// TestFakeEncode proves the same of the fake encoder.
func TestFakeEncode(t *testing.T) { Encode(t, fake(t, fakeplugin.Behaviour{Role: "encode"})) }
