// Package fakeplugin is a small, correct capture plugin and a small, correct encoder plugin that misbehave when told so. Tests of
// the host runtime run them as real processes, either through the binary in cmd or by starting themselves again (see Main).
//
// The capturer serves a moving pattern on a frame socket; the encoder looks at every frame and emits a valid H.264 stream that
// decodes to flat grey.
package fakeplugin

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// EnvName is the variable that holds a Behaviour in the form of Behaviour.String.
const EnvName = "WAVRY_FAKE"

// Behaviour says what the plugin does. The zero value of each field is correct behaviour. Each field's tag is its key.
type Behaviour struct {
	Role string `fake:"role"` // capture or encode

	// At the handshake.
	Version   int    `fake:"version"`   // speak this protocol version
	Handshake string `fake:"handshake"` // hang, garbage, exit

	// In every role.
	Refuse      bool          `fake:"refuse"`       // Probe and Start report UnavailableError
	StartDelay  time.Duration `fake:"start_delay"`  // Start takes this long
	DieAfter    int           `fake:"die_after"`    // exit with status 3 after this many frames
	PanicAfter  int           `fake:"panic_after"`  // panic after this many frames
	StallAfter  int           `fake:"stall_after"`  // no frames, units or heartbeats after this many frames, and calls hang
	FailAfter   int           `fake:"fail_after"`   // Watch ends with a fault after this many frames
	NoHeartbeat bool          `fake:"no_heartbeat"` // never a heartbeat
	StderrFlood int           `fake:"stderr_flood"` // lines written to stderr at Start
	IgnoreTerm  bool          `fake:"ignore_term"`  // Stop never returns, so SIGTERM has no effect
	// Runs, when > 0, limits the misbehaviour to the first so many processes; whoever starts them counts, see InRun.
	Runs int `fake:"runs"`

	// Capture only.
	Width     int  `fake:"width"`  // default 320
	Height    int  `fake:"height"` // default 240
	Idle      bool `fake:"idle"`   // nothing changes: keep-alive frames only
	Black     bool `fake:"black"`
	Frozen    bool `fake:"frozen"`     // every frame is the first one, at the full rate
	NoPicture bool `fake:"no_picture"` // heartbeats, but never a frame
	Garbage   bool `fake:"garbage"`    // bytes of no meaning on the frame socket
	WrongFD   bool `fake:"wrong_fd"`   // a pipe where memory should be
	Unsealed  bool `fake:"unsealed"`   // memory that could shrink
	ManyFDs   bool `fake:"many_fds"`   // more buffers than allowed
	OldSource bool `fake:"old_source"` // another frame socket version

	// Encode only.
	UnitBytes     int           `fake:"unit_bytes"`     // pad every unit to this size
	KeyBytes      int           `fake:"key_bytes"`      // pad keyframes to this size
	Slow          time.Duration `fake:"slow"`           // time to encode a frame
	NeverKeyframe bool          `fake:"never_keyframe"` // not even the first
	Gap           bool          `fake:"gap"`            // leave out sequence numbers
	BlackOutput   bool          `fake:"black_output"`   // report black pictures whatever comes in
	FrozenOutput  bool          `fake:"frozen_output"`  // report one picture for ever
}

// String is the form that Parse reads: key=value,key=value, without zero fields.
func (b Behaviour) String() string {
	var parts []string
	v := reflect.ValueOf(b)
	for i := range v.NumField() {
		if !v.Field(i).IsZero() {
			parts = append(parts, fmt.Sprintf("%s=%v", v.Type().Field(i).Tag.Get("fake"), v.Field(i).Interface()))
		}
	}
	return strings.Join(parts, ",")
}

// Env is the behaviour as an environment variable.
func (b Behaviour) Env() string { return EnvName + "=" + b.String() }

// Parse reads the form of String. A bool may be written without =true. All problems are reported.
func Parse(s string) (Behaviour, error) {
	var b Behaviour
	var problems []error
	for part := range strings.SplitSeq(s, ",") {
		if part == "" {
			continue
		}
		key, value, has := strings.Cut(part, "=")
		if !has {
			value = "true"
		}
		if err := b.set(key, value); err != nil {
			problems = append(problems, fmt.Errorf("%s %q: %w", EnvName, part, err))
		}
	}
	if b.Role != "capture" && b.Role != "encode" {
		problems = append(problems, fmt.Errorf("%s %q: role must be capture or encode", EnvName, s))
	}
	return b, errors.Join(problems...)
}

func (b *Behaviour) set(key, value string) error {
	v := reflect.ValueOf(b).Elem()
	for i := range v.NumField() {
		if v.Type().Field(i).Tag.Get("fake") == key {
			return setField(v.Field(i), value)
		}
	}
	return errors.New("unknown key")
}

func setField(f reflect.Value, value string) error {
	switch f.Interface().(type) {
	case string:
		f.SetString(value)
	case bool:
		b, err := strconv.ParseBool(value)
		f.SetBool(b)
		return err
	case int:
		n, err := strconv.Atoi(value)
		f.SetInt(int64(n))
		return err
	case time.Duration:
		d, err := time.ParseDuration(value)
		f.SetInt(int64(d))
		return err
	}
	return nil
}

// InRun is b for the n-th process, from 0: correct behaviour when b is meant for earlier ones only.
func (b Behaviour) InRun(n int) Behaviour {
	if b.Runs <= 0 || n < b.Runs {
		return b
	}
	return Behaviour{Role: b.Role, Width: b.Width, Height: b.Height, Idle: b.Idle, KeyBytes: b.KeyBytes, UnitBytes: b.UnitBytes}
}
