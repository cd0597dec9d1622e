package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/hashicorp/cli"
)

// sections is the first page of help: what each command is for, grouped by who uses it.
var sections = []struct {
	title    string
	commands []string
}{
	{"Try it", []string{"dev"}},
	{"Run a role", []string{"master", "gateway", "relay", "host", "desktop"}},
	{"Operate a fleet", []string{"operator", "session", "lease", "keys", "tls"}},
	{"This program", []string{"completion"}},
}

// groups are commands that only hold others.
var groups = map[string]string{
	"desktop":           "Start and look after headless desktops",
	"gateway user":      "List, change, enable and disable accounts",
	"keys":              "Look at, rotate and revoke the keys that sign leases",
	"lease":             "List, show, renew, release and revoke leases",
	"operator":          "Look after the control plane: servers, snapshots, audit",
	"operator cert":     "Revoke certificates of services",
	"operator raft":     "Look at and change the servers of the control plane",
	"operator snapshot": "Save, inspect and restore the control plane's state",
	"session":           "List, show, move and end sessions",
	"tls":               "Make the certificates of a small fleet",
}

// group is a command that only holds others; the library lists them below its help.
type group struct{ name, synopsis string }

func (g group) Synopsis() string { return g.synopsis }
func (g group) Help() string {
	return fmt.Sprintf("Usage: wavry %s COMMAND [options]\n\n  %s.", g.name, g.synopsis)
}
func (g group) Run([]string) int { return cli.RunResultHelp }

// addGroups puts each group that has commands into the table.
func addGroups(table map[string]cli.CommandFactory) {
	for name, synopsis := range groups {
		if len(below(table, name)) > 0 {
			table[name] = func() (cli.Command, error) { return group{name, synopsis}, nil }
		}
	}
}

// below lists the words that may follow a command's name; "" stands for the program itself.
func below(table map[string]cli.CommandFactory, name string) []string {
	words := map[string]bool{}
	for key := range table {
		rest, ok := strings.CutPrefix(key, name+" ")
		if name == "" {
			rest, ok = key, true
		}
		if ok {
			word, _, _ := strings.Cut(rest, " ")
			words[word] = true
		}
	}
	return slices.Sorted(maps.Keys(words))
}

// help is the first page.
func help(table map[string]cli.CommandFactory) string {
	var b strings.Builder
	b.WriteString("Usage: wavry COMMAND [options]\n\nReal Linux desktops from a fleet of hosts to people in a browser.\n")
	for _, s := range sections {
		fmt.Fprintf(&b, "\n%s\n", s.title)
		for _, name := range s.commands {
			command, err := table[name]()
			if err != nil {
				continue // a command that cannot even be made says so when it is run
			}
			fmt.Fprintf(&b, "  %-12s %s\n", name, command.Synopsis())
		}
	}
	b.WriteString("\nwavry COMMAND -h explains one of them.\n")
	return b.String()
}

// checkWords finds a word that is no command where only commands may follow.
func checkWords(table map[string]cli.CommandFactory, args []string) error {
	name := ""
	for _, word := range args {
		known := below(table, name)
		if strings.HasPrefix(word, "-") || len(known) == 0 {
			return nil
		}
		if !slices.Contains(known, word) {
			return fmt.Errorf("there is no command %q%s; %s lists the commands", strings.TrimSpace("wavry "+name)+" "+word, didYouMean(word, known),
				strings.TrimSpace("wavry "+name)+" -h")
		}
		name = strings.TrimSpace(name + " " + word)
	}
	return nil
}

// didYouMean is ": did you mean X?" for the nearest of the known words, or empty when none is near.
func didYouMean(word string, known []string) string {
	best, least := "", len(word)/3+2 // a letter in three may be wrong
	for _, k := range known {
		if d := levenshtein.Distance(word, k, nil); d < least {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(", did you mean %q?", best)
}

// parseFlags parses args. A mistake is one line that names the nearest flag, not the whole list.
func parseFlags(flags *flag.FlagSet, args []string) error {
	output := flags.Output()
	flags.SetOutput(io.Discard)
	err := flags.Parse(args)
	flags.SetOutput(output)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, flag.ErrHelp):
		flags.PrintDefaults()
		return err
	}
	var known []string
	flags.VisitAll(func(f *flag.Flag) { known = append(known, f.Name) })
	hint := ""
	if name, ok := strings.CutPrefix(err.Error(), "flag provided but not defined: -"); ok {
		if near := didYouMean(name, known); near != "" {
			hint = strings.Replace(near, `"`, `"-`, 1)
		}
	}
	return fmt.Errorf("%w%s; wavry %s -h lists the options", err, hint, flags.Name())
}
