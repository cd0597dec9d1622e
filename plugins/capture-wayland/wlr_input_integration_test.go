//go:build integration

package main

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/wavry/fleet/hostruntime/desktop"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
)

// A program in sway gets every character of a text, whatever the layout, and keys of the layout after it; locks as they are told, not
// toggled; and as many clicks of a notch in parts as of a whole one.
func TestSwayTextLocksAndWheel(t *testing.T) {
	inDesktop(t, desktop.Sway, swayApp, func(t *testing.T, in inside) {
		in.start(t, in.request("de"))
		in.dial(t)
		in.inject(t, textEvent("äé€ñü日😀zY"))
		in.inject(t, keys(21)...) // z of de
		in.wantBytes(t, "äé€ñü日😀zYz")
		in.inject(t, locksEvent(lockCaps, lockCaps))
		in.inject(t, locksEvent(lockCaps, lockCaps))
		in.inject(t, keys(30)...)
		in.inject(t, locksEvent(lockCaps, 0))
		in.inject(t, keys(30)...)
		in.wantBytes(t, "Aa")
		in.clickUntil(t, "a click arrived", 0.5, func(column int) bool { return column >= 0 })

		const down = "\x1b[<65;"
		turn := func(units ...int32) int {
			before, marks := strings.Count(in.input(t), down), strings.Count(in.input(t), "y")
			for _, u := range units {
				in.inject(t, scrollEvent(0, u))
			}
			in.inject(t, keys(44)...) // y of de marks the end
			eventually(t, "the mark", func() error {
				if strings.Count(in.input(t), "y") == marks {
					return fmt.Errorf("it got %q", in.input(t))
				}
				return nil
			})
			return strings.Count(in.input(t), down) - before
		}
		whole := turn(120)
		for name, units := range map[string][]int32{"halves": {60, 60}, "sixths": {20, 20, 20, 20, 20, 20}} {
			if got := turn(units...); got != whole || whole == 0 {
				t.Errorf("a notch in %s scrolls %d times, a whole one %d", name, got, whole)
			}
		}
	})
}

// The output takes the viewer's scale, with its size and alone.
func TestSwayScale(t *testing.T) {
	inDesktop(t, desktop.Sway, swayApp, func(t *testing.T, in inside) {
		in.start(t, &pluginpb.StartCaptureRequest{Fps: 60, Size: &pluginpb.Size{Width: 2560, Height: 1440, Scale: 2}})
		in.dial(t)
		want := func(scale float64) {
			t.Helper()
			eventually(t, fmt.Sprintf("a scale of %v", scale), func() error {
				out, err := exec.CommandContext(t.Context(), "swaymsg", "-r", "-t", "get_outputs").CombinedOutput()
				if err != nil {
					return fmt.Errorf("%w: %s", err, out)
				}
				if compact := strings.Join(strings.Fields(string(out)), ""); !strings.Contains(compact, fmt.Sprintf(`"scale":%.1f`, scale)) {
					return fmt.Errorf("outputs %s", compact)
				}
				return nil
			})
		}
		want(2)
		for _, scale := range []float64{1.5, 1} {
			got, err := in.plugin.Resize(t.Context(), &pluginpb.Size{Width: 2560, Height: 1440, Scale: scale})
			if err != nil || got.Width != 2560 {
				t.Fatalf("%v, %v", got, err)
			}
			want(scale)
		}
	})
}
