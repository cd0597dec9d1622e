package main

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// The first page fits a screen and names every command once; every command says in a line what it does.
func TestHelpFitsAScreen(t *testing.T) {
	_, page, _ := wavryRun("-h")
	lines := strings.Split(page, "\n")
	if len(lines) > 30 {
		t.Errorf("the first page has %d lines", len(lines))
	}
	for _, l := range lines {
		if len(l) > 80 {
			t.Errorf("a line of %d columns: %s", len(l), l)
		}
	}
	table := commands(&environment{})
	for _, name := range below(table, "") {
		if strings.Count(page, "\n  "+name+" ") != 1 {
			t.Errorf("%s is not on the first page once", name)
		}
	}
	for name, make := range table {
		command, err := make()
		if err != nil {
			t.Fatal(err)
		}
		if command.Synopsis() == "" {
			t.Errorf("wavry %s has no synopsis", name)
		}
		for i := strings.LastIndex(name, " "); i > 0; i = strings.LastIndex(name[:i], " ") {
			if table[name[:i]] == nil {
				t.Errorf("wavry %s is a group without a synopsis", name[:i])
			}
		}
	}
}

// A typo is told in one line with the nearest name, and nothing runs.
func TestTyposAreTold(t *testing.T) {
	for args, want := range map[string]string{
		"relya":              `did you mean "relay"?`,
		"keys rotat":         `did you mean "rotate"?`,
		"host lst":           `did you mean "list"?`,
		"operator raft list": "",
		"xyzzy":              "wavry -h lists the commands",
		"host -statedir=x":   `did you mean "-state-dir"?`,
		"relay list -jsn":    `did you mean "-json"?`,
		"host -slots=many":   "must be a whole number",
	} {
		code, out, errs := wavryRun(strings.Fields(args)...)
		if code == 0 || out != "" || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, want) {
			t.Errorf("wavry %s: exit %d, printed %q, said %q", args, code, out, errs)
		}
	}
}

// Completion prints for three shells, and the program answers a shell that asks it.
func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if code, out, errs := wavryRun("completion", shell); code != 0 || !strings.Contains(out, os.Args[0]) || errs != "" {
			t.Errorf("%s: exit %d, %q, %q", shell, code, out, errs)
		}
	}
	if code, _, errs := wavryRun("completion", "tcsh"); code == 0 || !strings.Contains(errs, "bash|zsh|fish") {
		t.Errorf("tcsh: exit %d, %q", code, errs)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self, "wavry", "dr", "relay") // as bash calls it
	c.Env = append(os.Environ(), "COMP_LINE=wavry relay dr", runEnv+"=1")
	out, err := c.Output()
	if err != nil || !slices.Contains(strings.Fields(string(out)), "drain") {
		t.Errorf("the program completes with %q, %v", out, err)
	}
}
