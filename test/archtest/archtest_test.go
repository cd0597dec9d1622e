// Package archtest enforces the project's shape: who may import whom, and habits that no linter knows. Each rule has its reason.
package archtest

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/wavry/fleet/"

type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

// room is the package's path below the module.
func (p pkg) room() string { return strings.TrimPrefix(p.ImportPath, module) }

func packages(t *testing.T) []pkg {
	t.Helper()
	// -e: a machine without the GStreamer headers can still be judged.
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports,Deps", "./...")
	cmd.Dir = "../.."
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var all []pkg
	for d := json.NewDecoder(out); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if len(all) < 10 {
		t.Fatalf("go list found %d packages", len(all))
	}
	return all
}

// leaves are contracts: they live with their owner and import nothing of ours but other contracts below them.
var leaves = map[string][]string{
	"master/masterapi":                  nil,
	"master/lease":                      nil,
	"gateway/signalapi":                 nil,
	"relay/relaywire":                   nil,
	"hostruntime/media":                 nil,
	"hostruntime/streamwire":            {"hostruntime/media"},
	"hostruntime/pluginapi/pluginpb":    nil,
	"hostruntime/pluginapi/rawio":       nil, // how to receive; below the contracts that receive
	"hostruntime/pluginapi/inbox":       nil, // how connections are handed over; below the contracts that use them
	"hostruntime/pluginapi/framesource": {"hostruntime/media", "hostruntime/pluginapi/inbox", "hostruntime/pluginapi/rawio"},
	"hostruntime/pluginapi":             {"hostruntime/pluginapi/pluginpb", "hostruntime/media"},
}

// A contract that depends on an implementation cannot be read, or implemented, alone.
func TestLeavesImportNothing(t *testing.T) {
	for _, p := range packages(t) {
		allowed, isLeaf := leaves[p.room()]
		if !isLeaf {
			continue
		}
		for _, imported := range p.Imports {
			room, ours := strings.CutPrefix(imported, module)
			if ours && !slices.Contains(allowed, room) && !strings.HasPrefix(room, p.room()+"/") {
				t.Errorf("%s is a contract and imports %s", p.room(), room)
			}
		}
	}
}

// only says that a module is imported by one room alone.
type only struct {
	imported string // prefix of the import path
	room     string // prefix of the room that may
	reason   string
}

var onlys = []only{
	{"github.com/quic-go/", "hostruntime/transport", "the transport can be exchanged"},
	{"github.com/go-gst/", "plugins/internal/gstpipe", "GStreamer's cgo, finalizers and callbacks stay in one place"},
	{"github.com/hashicorp/raft", "master", "only the master keeps replicated state"},
	{"github.com/hashicorp/go-plugin", "hostruntime/plugin", "the plugins' contract and the host of their processes are where its rules are known"},
	{"github.com/jackc/pgx", "gateway/store", "only the gateway keeps accounts"},
	{"modernc.org/sqlite", "gateway/store", "only the gateway keeps accounts"},
}

func TestOnlyOneRoomImports(t *testing.T) {
	for _, p := range packages(t) {
		for _, rule := range onlys {
			if strings.HasPrefix(p.room(), rule.room) || strings.HasPrefix(p.room(), "test/") {
				continue
			}
			for _, imported := range p.Imports {
				if strings.HasPrefix(imported, rule.imported) {
					t.Errorf("%s imports %s; only %s may: %s", p.room(), imported, rule.room, rule.reason)
				}
			}
		}
	}
}

// The relay is blind: it cannot look into what it forwards, because it links nothing that could.
func TestRelayIsBlind(t *testing.T) {
	for _, p := range packages(t) {
		if p.room() != "relay" && !strings.HasPrefix(p.room(), "relay/") {
			continue
		}
		for _, dep := range p.Deps {
			if strings.HasPrefix(dep, module+"hostruntime") || strings.HasPrefix(dep, "github.com/quic-go/") {
				t.Errorf("%s depends on %s", p.room(), dep)
			}
		}
	}
}

// The replicated state is pure, so that the same log gives the same bytes on every server. It imports neither network, files,
// randomness nor locks, and nothing that it depends on by way of others can open a connection.
func TestStateIsPure(t *testing.T) {
	forbidden := []string{"net", "os", "math/rand", "math/rand/v2", "crypto/rand", "sync", "github.com/hashicorp/raft"}
	network := []string{"net", "net/http", "connectrpc.com/connect", "github.com/hashicorp/raft"}
	for _, p := range packages(t) {
		if p.room() != "master/state" {
			continue
		}
		for _, imported := range p.Imports {
			if slices.Contains(forbidden, imported) {
				t.Errorf("master/state imports %s", imported)
			}
		}
		for _, dep := range p.Deps {
			if slices.Contains(network, dep) {
				t.Errorf("master/state depends on %s", dep)
			}
		}
	}
}

// A drawer package collects what nobody wanted to name.
func TestNoDrawers(t *testing.T) {
	drawers := []string{"common", "util", "utils", "types", "structs", "helpers", "defs", "pkg", "misc"}
	for _, p := range packages(t) {
		for part := range strings.SplitSeq(p.room(), "/") {
			if slices.Contains(drawers, part) {
				t.Errorf("%s: %q says nothing about what is in it", p.room(), part)
			}
		}
		if strings.HasPrefix(p.room(), "internal/") {
			t.Errorf("%s: there is no internal/ at the root", p.room())
		}
	}
}

// rule is a line that must not appear in matching files.
type rule struct {
	files  func(path string) bool
	line   *regexp.Regexp
	reason string
}

func goFile(path string) bool { return strings.HasSuffix(path, ".go") && !generated(path) }

func testFile(path string) bool { return strings.HasSuffix(path, "_test.go") }

func generated(path string) bool {
	return strings.HasSuffix(path, ".pb.go") || strings.HasSuffix(path, ".connect.go")
}

var rules = []rule{
	{testFile, regexp.MustCompile(`\btime\.Sleep\(`), "a sleep in a test is a race; use synctest, a channel or a deadline"},
	{goFile, regexp.MustCompile(`\bFIX` + `ME\b`), "mend it now, or file an issue"},
	{goFile, regexp.MustCompile(`\bTO` + `DO\b(?:[^(]|$)`), "it names its owner or issue, in parentheses"},
	{func(p string) bool { return goFile(p) && strings.HasPrefix(p, "relay/handle") }, regexp.MustCompile(`\blog(ger)?\.`), "the packet path counts, it does not log"},
}

func TestLines(t *testing.T) {
	walk(t, func(path string, lines []string) {
		for _, r := range rules {
			if !r.files(path) {
				continue
			}
			for i, line := range lines {
				if r.line.MatchString(line) {
					t.Errorf("%s:%d: %s", path, i+1, r.reason)
				}
			}
		}
	})
}

// The hub may not grow. Hubs only wire: what decides something belongs in a file beside them.
func TestHubsStaySmall(t *testing.T) {
	const most = 420
	hubs := []string{"hostruntime/host.go", "hostruntime/session/session.go", "gateway/gateway.go", "relay/relay.go", "master/master.go"}
	walk(t, func(path string, lines []string) {
		if slices.Contains(hubs, path) && len(lines) > most {
			t.Errorf("%s has %d lines, at most %d", path, len(lines), most)
		}
	})
}

// A doc comment that a blank line tears off is lost to go doc.
func TestDocCommentsAreAttached(t *testing.T) {
	comment := regexp.MustCompile(`^// ([A-Z]\w*) (is|are|returns|reports|has|holds|sets|says)\b`)
	walk(t, func(path string, lines []string) {
		if !goFile(path) || testFile(path) {
			return
		}
		for i := 0; i+2 < len(lines); i++ {
			m := comment.FindStringSubmatch(lines[i])
			if m != nil && lines[i+1] == "" && strings.Contains(lines[i+2], " "+m[1]) {
				t.Errorf("%s:%d: a blank line separates the comment from %s", path, i+1, m[1])
			}
		}
	})
}

func walk(t *testing.T, visit func(path string, lines []string)) {
	t.Helper()
	root := os.DirFS("../..")
	err := fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git" || d.Name() == "dist" || d.Name() == "bin") {
			return fs.SkipDir
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		f, err := root.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		var lines []string
		for s := bufio.NewScanner(f); s.Scan(); {
			lines = append(lines, s.Text())
		}
		visit(path, lines)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A job that promises the race detector must have it.
func TestRaceDetectorIsOn(t *testing.T) {
	if os.Getenv("WAVRY_CI_RACE") == "1" && !raceEnabled {
		t.Fatal("WAVRY_CI_RACE=1 but this test was built without -race")
	}
}
