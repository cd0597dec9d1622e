package archtest

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The map is true: every room that ARCHITECTURE.md names exists, and every package is in a room that it names. Whoever is new has nothing else to
// go by.
func TestMapNamesEveryRoom(t *testing.T) {
	text, err := os.ReadFile("../../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "## Your room")
	table, _, _ = strings.Cut(table, "## Rules")
	named := map[string]bool{}
	for _, m := range regexp.MustCompile("`([a-z0-9/_*-]+)(?:\\.[a-z]+)?`").FindAllStringSubmatch(table, -1) {
		named[m[1]] = true
	}
	for room := range named {
		if files, err := filepath.Glob("../../" + room + "*"); strings.Contains(room, "/") && (err != nil || len(files) == 0) {
			t.Errorf("ARCHITECTURE.md names %s, which is not there", room)
		}
	}
	for _, p := range packages(t) {
		if !inRoom(p.room(), named) {
			t.Errorf("package %s is in no room that ARCHITECTURE.md names", p.room())
		}
	}
}

// inRoom says whether a package, or a folder above it, is named by its path, by its last element, or by a pattern such as plugins/encode-*.
func inRoom(room string, named map[string]bool) bool {
	for at := room; at != "."; at = path.Dir(at) {
		if named[at] || named[path.Base(at)] {
			return true
		}
		for pattern := range named {
			if ok, err := path.Match(pattern, at); err == nil && ok {
				return true
			}
		}
	}
	return false
}

// Why a room is as it is stands in its DESIGN.md, or in that of the room around it.
func TestRoomsSayWhy(t *testing.T) {
	for _, p := range packages(t) {
		if strings.HasPrefix(p.room(), "test/") {
			continue
		}
		if !explained(p.room()) {
			t.Errorf("%s has no DESIGN.md, nor has a room around it", p.room())
		}
	}
}

func explained(room string) bool {
	for at := room; at != "."; at = path.Dir(at) {
		if _, err := os.Stat(filepath.Join("../..", at, "DESIGN.md")); err == nil {
			return true
		}
	}
	return false
}
