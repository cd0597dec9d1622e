package main

import (
	"reflect"
	"slices"
	"testing"
)

// The environment is read as desktops write it.
func TestSessionFromEnvironment(t *testing.T) {
	env := map[string]string{
		"XDG_CURRENT_DESKTOP": "ubuntu:GNOME", "WAYLAND_DISPLAY": "wayland-0", "XDG_RUNTIME_DIR": "/run/user/7", "DBUS_SESSION_BUS_ADDRESS": "unix:path=/b",
	}
	got := sessionFromEnvironment(func(k string) (string, bool) { v, ok := env[k]; return v, ok })
	want := session{Desktop: []string{"ubuntu", "gnome"}, Display: "wayland-0", RuntimeDir: "/run/user/7", Bus: "unix:path=/b"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
	if got := sessionFromEnvironment(func(string) (string, bool) { return "", false }); len(got.Desktop) != 0 {
		t.Errorf("empty environment: %+v", got)
	}
}

// Every desktop lists every method, its own direct way first, and polling last on KDE.
func TestMethodOrder(t *testing.T) {
	for _, c := range []struct {
		desktop     []string
		first, last string
	}{
		{[]string{"sway"}, "wlr-screencopy", ""},
		{[]string{"ubuntu", "gnome"}, "mutter", ""},
		{[]string{"kde"}, "kwin-screencast", "wlr-screencopy"},
		{nil, "wlr-screencopy", ""},
	} {
		var order []string
		for _, m := range methods(session{Desktop: c.desktop}, discard)(t.Context()) {
			order = append(order, m.Name())
		}
		if order[0] != c.first || (c.last != "" && order[len(order)-1] != c.last) {
			t.Errorf("%v: %v", c.desktop, order)
		}
		sorted := slices.Sorted(slices.Values(order))
		if want := []string{"kwin-screencast", "kwin-screenshot", "kwin-window", "mutter", "portal", "wlr-screencopy"}; !reflect.DeepEqual(sorted, want) {
			t.Errorf("%v lists %v", c.desktop, sorted)
		}
		if shot, cast := slices.Index(order, "kwin-screenshot"), slices.Index(order, "kwin-screencast"); shot < cast {
			t.Errorf("%v polls before it streams: %v", c.desktop, order)
		}
	}
}
