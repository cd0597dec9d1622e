package archtest

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// boundaries are those of the threat model, in its order.
var boundaries = []string{"Stranger", "Signed-in viewer", "Desktop user", "Plugin", "Host", "Relay", "Gateway", "Job author", "Local process"}

// A threat that no test holds off is an opinion. Each row of the threat model names its tests, and they exist.
func TestThreatsAreHeldByTests(t *testing.T) {
	page, err := os.ReadFile("../../SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]int{}
	var boundary string
	for line := range strings.Lines(string(page)) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "### "); ok {
			boundary = name
		}
		if !strings.HasPrefix(line, "|") || line == "| threat | rule | held by |" || strings.HasPrefix(line, "|---") {
			continue
		}
		rows[boundary]++
		for _, problem := range rowProblems(line) {
			t.Errorf("SECURITY.md, %s: %s\n\t%s", boundary, problem, line)
		}
	}
	for _, b := range boundaries {
		if rows[b] == 0 {
			t.Errorf("SECURITY.md has no row for the boundary %q", b)
		}
	}
	for b := range rows {
		if !slices.Contains(boundaries, b) {
			t.Errorf("SECURITY.md has rows under %q, which is no boundary", b)
		}
	}
}

var testName = regexp.MustCompile("`([a-z0-9/_-]+)\\.((?:Test|Fuzz)[A-Za-z0-9_]+)`")

// rowProblems says what is wrong with one row of the table: `| threat | rule | held by |`.
func rowProblems(row string) []string {
	cells := strings.Split(strings.Trim(row, "|"), "|")
	if len(cells) != 3 {
		return []string{"a row has three cells"}
	}
	named := testName.FindAllStringSubmatch(cells[2], -1)
	if len(named) == 0 {
		return []string{"the row names no test"}
	}
	var problems []string
	for _, n := range named {
		if !testExists(n[1], n[2]) {
			problems = append(problems, "there is no test "+n[1]+"."+n[2])
		}
	}
	return problems
}

func testExists(room, name string) bool {
	files, _ := filepath.Glob(filepath.Join("../..", room, "*_test.go"))
	return slices.ContainsFunc(files, func(file string) bool {
		text, err := os.ReadFile(file)
		return err == nil && strings.Contains(string(text), "\nfunc "+name+"(")
	})
}

// TestRowProblems proves that the rule above can fail.
func TestRowProblems(t *testing.T) {
	for row, problems := range map[string]int{
		"| steals | is stopped | `test/archtest.TestRowProblems` |":                              0,
		"| steals | is stopped | nobody |":                                                       1,
		"| steals | is stopped | `test/archtest.TestNowhere` |":                                  1,
		"| steals | is stopped | `test/archtest.TestNowhere`, `test/archtest.TestRowProblems` |": 1,
		"| steals | is stopped |":                                                                1,
	} {
		if got := rowProblems(row); len(got) != problems {
			t.Errorf("%s: %v", row, got)
		}
	}
}

// Two builds of one commit must start from the same bytes: a tag moves, a digest does not.
func TestImagesArePinned(t *testing.T) {
	text, err := os.ReadFile("../../jobs/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	bases := regexp.MustCompile(`(?m)^FROM (\S+)`).FindAllStringSubmatch(string(text), -1)
	if len(bases) == 0 {
		t.Fatal("jobs/Dockerfile has no FROM")
	}
	for _, b := range bases {
		if !regexp.MustCompile(`@sha256:[0-9a-f]{64}$`).MatchString(b[1]) {
			t.Errorf("jobs/Dockerfile: %s is not pinned by digest", b[1])
		}
	}
}
