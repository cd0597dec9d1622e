package desktop

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

// turns is a tenancy whose supervisor a test plays.
func turns(t *testing.T, alone bool) *Desktop {
	t.Helper()
	return &Desktop{tenancy: newTenancy(), places: placesIn(t.TempDir()), alone: alone, log: slog.New(slog.DiscardHandler)}
}

// emptied plays empty.
func (d *Desktop) emptied() {
	d.tenancy.change(func() { d.tenancy.used, d.tenancy.empty = false, false })
}

// TestOneTenantAfterTheOther proves whose a desktop is: nobody's while it is not up, one claim's at a time, nobody's again before it was
// emptied, and that the end of the wait for it leaves no trace.
func TestOneTenantAfterTheOther(t *testing.T) {
	d := turns(t, true)
	gone, leave := context.WithCancel(t.Context())
	leave()
	if _, _, err := d.take(gone, false, func(string) {}); err == nil {
		t.Fatal("a desktop that is not up was given away")
	}
	if used, _ := d.places.wasUsed(); used {
		t.Error("a claim that came to nothing left its mark")
	}
	restarts := 0
	d.tenancy.begin(func() { restarts++ })
	d.tenancy.isUp()
	kept, release, err := d.take(t.Context(), false, func(string) {})
	if err != nil || kept {
		t.Fatal(kept, err)
	}
	if used, keep := d.places.wasUsed(); !used || keep {
		t.Error("a desktop that is somebody's is not remembered so")
	}
	told := ""
	if _, _, err := d.take(gone, false, func(why string) { told = why }); err == nil || told != "another host has this desktop" {
		t.Errorf("given away twice: %v, %q", err, told)
	}
	release()
	if restarts != 1 {
		t.Errorf("%d restarts after the person", restarts)
	}
	d.tenancy.isDown("it is down")
	d.tenancy.isUp() // too early: it was not emptied
	if _, _, err := d.take(gone, false, func(string) {}); err == nil {
		t.Error("a used desktop was given away")
	}
	d.emptied()
	if _, release, err = d.take(t.Context(), true, func(string) {}); err != nil {
		t.Fatal(err)
	}
	release()
	if _, keep := d.places.wasUsed(); !keep || d.tenancy.mustEmpty() {
		t.Error("a desktop that shall be kept is emptied")
	}
	if _, _, err := d.take(gone, false, func(string) {}); err == nil || !d.tenancy.mustEmpty() {
		t.Error("a kept desktop was given to somebody who wants an empty one")
	}
}

// TestUnmarkedIsNotGivenAway proves that a use which would be forgotten with this process does not begin.
func TestUnmarkedIsNotGivenAway(t *testing.T) {
	d := turns(t, true)
	d.tenancy.isUp()
	if err := os.Mkdir(filepath.Join(d.places.state, "used"), 0o700); err != nil { // no file can be written there
		t.Fatal(err)
	}
	if _, _, err := d.take(t.Context(), false, func(string) {}); err == nil {
		t.Error("given away")
	}
	if len(d.tenancy.turn) != 0 {
		t.Error("and nobody can have it")
	}
}

// TestSharedUserIsKept proves that a desktop whose user is not its alone is not emptied, and says so.
func TestSharedUserIsKept(t *testing.T) {
	d := turns(t, false)
	d.tenancy.isUp()
	kept, release, err := d.take(t.Context(), false, func(string) {})
	if err != nil || !kept {
		t.Fatal(kept, err)
	}
	release()
	if d.tenancy.mustEmpty() {
		t.Error("it is emptied")
	}
}

// TestFoundHomeIsUsed proves that a home which was there before this process is somebody's, though nobody noted a claim: a local program, or a
// desktop of before claims, may have filled it.
func TestFoundHomeIsUsed(t *testing.T) {
	for found, want := range map[bool]bool{false: false, true: true} {
		me := User{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
		state := t.TempDir()
		d := &Desktop{cfg: Config{User: &me}, places: placesIn(state), log: slog.New(slog.DiscardHandler)}
		if found {
			if err := os.Mkdir(d.places.home, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.open(); err != nil {
			t.Fatal(err)
		}
		if d.places.found != want {
			t.Errorf("found %v with a home there before: %v", d.places.found, found)
		}
		if err := d.places.unlock(); err != nil {
			t.Error(err)
		}
	}
}
