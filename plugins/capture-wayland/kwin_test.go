package main

import (
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/wavry/fleet/hostruntime/media"
)

const supportText = `KWin Support Information:
==========================

Version
=======
KWin version: 5.27.5
Qt Version: 5.15.8

Output backend
==============
Name: KWin::VirtualBackend

Cursor
======
Name: default
`

// TestParseSupport proves what is read of KWin's own description, and when a monitor stream is worth trying.
func TestParseSupport(t *testing.T) {
	got := parseSupport(supportText)
	if got != (kwinSupport{Version: "5.27.5", Backend: "VirtualBackend"}) {
		t.Fatalf("%+v", got)
	}
	tests := map[kwinSupport]bool{
		got: false, {"5.27.5", "DrmBackend"}: true, {"6.1.0", "VirtualBackend"}: true, {"", ""}: true, {"", "VirtualBackend"}: true,
	}
	for s, works := range tests {
		if err := s.castsMonitors(); (err == nil) != works {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

// TestChooseWindow proves which window stands for the desktop.
func TestChooseWindow(t *testing.T) {
	output := rect{0, 0, 1000, 500}
	small := seen{uuid: "small", state: windowActive, place: rect{10, 10, 300, 300}}
	large := seen{uuid: "large", place: rect{0, 30, 1000, 470}}
	maximised := seen{uuid: "maximised", state: windowMaximized}
	full := seen{uuid: "full", state: windowFullscreen}
	active := seen{uuid: "active", state: windowMaximized | windowActive}
	tests := []struct {
		name    string
		windows []seen
		want    string
	}{
		{"none", nil, ""},
		{"only a small one", []seen{small}, ""},
		{"as large as the output", []seen{small, large}, "large"},
		{"maximised before large", []seen{large, maximised}, "maximised"},
		{"full-screen before maximised", []seen{maximised, full}, "full"},
		{"active before all", []seen{full, active, maximised}, "active"},
		{"same in every order", []seen{{uuid: "b", state: windowMaximized}, {uuid: "a", state: windowMaximized}}, "a"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got, ok := chooseWindow(test.windows, output); got.uuid != test.want || ok != (test.want != "") {
				t.Errorf("chose %q, %v; want %q", got.uuid, ok, test.want)
			}
		})
	}
}

// TestReadShot proves which pictures of KWin are understood.
func TestReadShot(t *testing.T) {
	shot := func(kind string, format uint32) map[string]dbus.Variant {
		return map[string]dbus.Variant{
			"type": dbus.MakeVariant(kind), "format": dbus.MakeVariant(format),
			"width": dbus.MakeVariant(uint32(4)), "height": dbus.MakeVariant(uint32(2)), "stride": dbus.MakeVariant(uint32(16)),
		}
	}
	got, err := readShot(shot("raw", 6))
	if err != nil || got.Width != 4 || got.Height != 2 || got.Planes[0].Stride != 16 || got.Format != media.FormatXRGB8888 {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []map[string]dbus.Variant{nil, shot("png", 6), shot("raw", 3), shot("raw", 7)} {
		if _, err := readShot(bad); err == nil {
			t.Errorf("%v was read", bad)
		}
	}
}

// TestShotPeriod proves the ceiling of the polling rate.
func TestShotPeriod(t *testing.T) {
	for fps, want := range map[float64]time.Duration{0: time.Second / maxShotRate, 60: time.Second / maxShotRate, 5: 200 * time.Millisecond} {
		if got := shotPeriod(fps); got != want {
			t.Errorf("shotPeriod(%v) = %v, want %v", fps, got, want)
		}
	}
}
