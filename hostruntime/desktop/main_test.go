package desktop

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain lets this test binary also be the process that a test starts: "guard ID DIR USER", and in integration tests "desktop ...".
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "guard":
			exitWith(Guard(os.Stdin, os.Args[2], os.Args[3], os.Args[4]))
		case "desktop":
			exitWith(runDesktop(os.Args[2:]))
		}
	}
	goleak.VerifyTestMain(m)
}

func exitWith(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// runDesktop is set by the integration tests.
var runDesktop = func([]string) error { return fmt.Errorf("built without the tag integration") }
