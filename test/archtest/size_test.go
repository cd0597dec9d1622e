package archtest

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// mostMethods is how many methods a type may have: about what fits a page of go doc.
const mostMethods = 60

// known are types that have more, with what is to become of them. The numbers only go down.
var known = map[string]int{
	"master.leader":       87, // to become master/fleet and master/admission
	"gateway.Gateway":     87, // sign-in and signaling are to be types of their own
	"gateway/store.Store": 72, // one method a statement
}

// A type with a hundred methods is a drawer with a receiver.
func TestTypesStaySmall(t *testing.T) {
	method := regexp.MustCompile(`^func \(\w* ?\*?(\w+)(?:\[\w+\])?\) `)
	count := map[string]int{}
	walk(t, func(file string, lines []string) {
		if testFile(file) || generated(file) {
			return
		}
		for _, line := range lines {
			if m := method.FindStringSubmatch(line); m != nil {
				count[path.Dir(file)+"."+m[1]]++
			}
		}
	})
	for name, n := range count {
		if most := max(mostMethods, known[name]); n > most {
			t.Errorf("%s has %d methods, at most %d", name, n, most)
		}
	}
}

// A page of TypeScript that nobody reads to its end hides what it does. session.ts is to become a machine with a transport below it.
func TestPagesStaySmall(t *testing.T) {
	const most = 400
	longer := map[string]int{"session.ts": 600}
	files, err := filepath.Glob("../../web/src/*.ts")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files in web/src, %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(file)
		if n := strings.Count(string(text), "\n"); n > max(most, longer[name]) {
			t.Errorf("web/src/%s has %d lines, at most %d", name, n, max(most, longer[name]))
		}
	}
}

// Waiting for a time outside of a bubble is a sleep by another name.
func TestNoSleepByAnotherName(t *testing.T) {
	wait := regexp.MustCompile(`^\s*<-time\.(After|NewTimer)\(`)
	walk(t, func(file string, lines []string) {
		if !testFile(file) || strings.Contains(strings.Join(lines, "\n"), "synctest") {
			return
		}
		for i, line := range lines {
			if wait.MatchString(line) {
				t.Errorf("%s:%d: waits for a time; use synctest, a channel or a deadline", file, i+1)
			}
		}
	})
}
