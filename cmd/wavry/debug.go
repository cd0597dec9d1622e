package main

import (
	"fmt"
	"os"
	"time"
)

// debugHelp lists the engineers' knobs, which -help-debug prints. They are read where they act and may go with any version.
const debugHelp = `Engineers' knobs, set in the environment. They are for tests and hunts; nothing promises that they stay.

  WAVRY_DEBUG_RELAY_CLOCK=DURATION
      shift wavry relay's clock: 30s runs ahead, -30s behind
  WAVRY_DEBUG_RELAY_NO_OFFLOAD=1
      let the relay neither merge (UDP_GRO) nor segment (UDP_SEGMENT)
`

// relayClock is the relay's wall clock: the machine's, shifted for whoever asks for it; nil is the machine's.
func relayClock() (func() time.Time, error) {
	const knob = "WAVRY_DEBUG_RELAY_CLOCK"
	text := os.Getenv(knob)
	if text == "" {
		return nil, nil
	}
	shift, err := time.ParseDuration(text)
	if err != nil {
		return nil, fmt.Errorf("%s=%q: must be a duration such as 30s or -30s", knob, text)
	}
	return func() time.Time { return time.Now().Add(shift) }, nil
}
