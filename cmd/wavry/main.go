// Command wavry is every role of Wavry Fleet in one static binary: each role and each operator's tool is a subcommand.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/hashicorp/cli"
)

// version is set by the linker (-X main.version=...).
var version = "dev"

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	if len(args) == 1 && strings.TrimLeft(args[0], "-") == "help-debug" {
		fmt.Fprint(stdout, debugHelp)
		return 0
	}
	table := commands(&environment{stdout: stdout, stderr: stderr})
	// A shell that asks for completions calls the program with its own words: wavry wavry WORD BEFORE.
	if err := checkWords(table, args); err != nil && os.Getenv("COMP_LINE") == "" {
		fmt.Fprintln(stderr, err)
		return exitNoCommand
	}
	c := cli.NewCLI("wavry", version)
	c.Args, c.Commands = args, table
	c.HelpWriter, c.ErrorWriter = stdout, stderr
	c.HelpFunc = func(map[string]cli.CommandFactory) string { return help(table) }
	code, err := c.Run()
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	return code
}

// exitNoCommand is the exit code for a command that does not exist, as a shell's.
const exitNoCommand = 127

// environment is what every command gets from the process.
type environment struct {
	stdout, stderr io.Writer
}

// logger writes to stderr: text for people, JSON when WAVRY_LOG_FORMAT=json. WAVRY_LOG_LEVEL is debug, info (the default), warn or
// error.
func (e *environment) logger() (*slog.Logger, error) { return e.loggerFrom(slog.LevelInfo) }

// loggerFrom is logger with another default level.
func (e *environment) loggerFrom(level slog.Level) (*slog.Logger, error) {
	if s := os.Getenv("WAVRY_LOG_LEVEL"); s != "" {
		if err := level.UnmarshalText([]byte(s)); err != nil {
			return nil, fmt.Errorf("WAVRY_LOG_LEVEL %q: use debug, info, warn or error", s)
		}
	}
	options := &slog.HandlerOptions{Level: level}
	if strings.EqualFold(os.Getenv("WAVRY_LOG_FORMAT"), "json") {
		return slog.New(slog.NewJSONHandler(e.stderr, options)), nil
	}
	return slog.New(slog.NewTextHandler(e.stderr, options)), nil
}

// signalContext ends with the first SIGINT or SIGTERM; a second one kills the process at once.
func signalContext() (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// report prints a command's error the same way everywhere and returns its exit code.
func (e *environment) report(command string, err error) int {
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return 0
	}
	fmt.Fprintf(e.stderr, "wavry %s: %v\n", command, err)
	return 1
}
