package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/hashicorp/cli"

	"github.com/wavry/fleet/hostruntime/fingerprint"
	"github.com/wavry/fleet/hostruntime/pluginhost"
)

// doctorCommands is `wavry host doctor`.
func doctorCommands(env *environment) map[string]cli.CommandFactory {
	return map[string]cli.CommandFactory{
		"host doctor": func() (cli.Command, error) { return &doctorCommand{env: env}, nil },
	}
}

// Exit codes, for scripts.
const (
	doctorUsable   = 0
	doctorUnusable = 1
	doctorMismatch = 2
)

type doctorCommand struct{ env *environment }

func (c *doctorCommand) Synopsis() string {
	return "Try every plugin and say what this machine can stream"
}

func (c *doctorCommand) Help() string {
	return strings.TrimSpace(`
Usage: wavry host doctor [options]

  Looks at the desktop session, really captures and encodes with every plugin, and prints a verdict per line with what to do about
  it. Exit code 0: a session can run; 1: it cannot; 2: it can, but versions differ from the lock file. Takes the options of
  wavry host, and:

  -json              print the result as JSON
  -lock FILE         compare with the versions pinned in FILE
  -write-lock FILE   pin the versions found in FILE
  -env-file FILE     look at the desktop whose environment is in FILE (KEY=VALUE lines, as wavry desktop run writes)
  -frames N          pictures of each trial (default 30; 0: only look)
  -joint             run the chosen capture and encoder together (default true)
`) + "\n\n" + optionHelp("host", new(defaultHostConfig()))
}

// doctorOptions are the command's own flags.
type doctorOptions struct {
	json, joint              bool
	lock, writeLock, envFile string
	frames                   int
}

func (c *doctorCommand) Run(args []string) int {
	cfg := defaultHostConfig()
	var o doctorOptions
	flags := flag.NewFlagSet("host doctor", flag.ContinueOnError)
	flags.SetOutput(c.env.stderr)
	flags.BoolVar(&o.json, "json", false, "print JSON")
	flags.BoolVar(&o.joint, "joint", true, "run the chosen capture and encoder together")
	flags.StringVar(&o.lock, "lock", "", "lock `file` to compare with")
	flags.StringVar(&o.writeLock, "write-lock", "", "lock `file` to write")
	flags.StringVar(&o.envFile, "env-file", "", "`file` with the desktop's environment")
	flags.IntVar(&o.frames, "frames", 30, "pictures of each trial")
	if err := loadConfig("host", &cfg, flags, args); err != nil {
		return c.env.report("host doctor", err)
	}
	code, err := c.diagnose(cfg, o)
	if err != nil {
		return c.env.report("host doctor", err)
	}
	return code
}

func (c *doctorCommand) diagnose(cfg hostConfig, o doctorOptions) (int, error) {
	ctx, stop := signalContext()
	defer stop()
	lock, err := o.readLock() // before the work, so that a wrong path is not told after it
	if err != nil {
		return 0, err
	}
	result, err := c.fingerprint(ctx, cfg, o)
	if err != nil {
		return 0, err
	}
	mismatches := lock.Compare(result)
	if o.writeLock != "" {
		if err := result.WriteLock(o.writeLock); err != nil {
			return 0, err
		}
	}
	if err := c.print(result, mismatches, o); err != nil {
		return 0, err
	}
	switch {
	case !result.Usable():
		return doctorUnusable, nil
	case len(mismatches) > 0:
		return doctorMismatch, nil
	}
	return doctorUsable, nil
}

func (o doctorOptions) readLock() (fingerprint.Lock, error) {
	if o.lock == "" {
		return fingerprint.Lock{}, nil
	}
	return fingerprint.ReadLock(o.lock)
}

func (c *doctorCommand) fingerprint(ctx context.Context, cfg hostConfig, o doctorOptions) (*fingerprint.Result, error) {
	log := slog.New(slog.DiscardHandler) // the report says it all, unless a person asks for more
	if os.Getenv("WAVRY_LOG_LEVEL") != "" {
		var err error
		if log, err = c.env.logger(); err != nil {
			return nil, err
		}
	}
	environ, err := readEnvFile(o.envFile)
	if err != nil {
		return nil, err
	}
	users, err := cfg.pluginUsers(environ)
	if err != nil {
		return nil, err
	}
	defer users.Close()
	dirs := cfg.pluginDirs()
	binaries, err := pluginhost.Discover(dirs...)
	if err != nil {
		return nil, err
	}
	frames := o.frames
	if frames == 0 {
		frames = -1
	}
	return fingerprint.Run(ctx, fingerprint.Config{
		Binaries: binaries, Dirs: dirs, Order: cfg.order(), Frames: frames, FPS: float64(cfg.MaxFPS),
		Joint: o.joint && o.frames > 0, Env: environ, Users: users, Version: version, Logger: log,
	})
}

// readEnvFile returns our environment overlaid with the file's; nil without a file.
func readEnvFile(path string) ([]string, error) {
	if path == "" {
		return nil, nil
	}
	b, err := readDesktopFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the desktop's environment: %w", err)
	}
	lines, err := parseEnviron(path, string(b))
	return append(os.Environ(), lines...), err
}

// parseEnviron reads KEY=VALUE lines; empty ones and comments are skipped.
func parseEnviron(path, text string) ([]string, error) {
	var environ []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if !strings.Contains(line, "=") {
			return nil, fmt.Errorf("read the desktop's environment: %s: %q is not KEY=VALUE", path, line)
		}
		environ = append(environ, line)
	}
	return environ, nil
}

func (c *doctorCommand) print(r *fingerprint.Result, mismatches []fingerprint.Mismatch, o doctorOptions) error {
	if o.json {
		encoder := json.NewEncoder(c.env.stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(struct {
			*fingerprint.Result
			Usable     bool                   `json:"usable"`
			Mismatches []fingerprint.Mismatch `json:"mismatches"`
		}{r, r.Usable(), mismatches})
	}
	w := &matrix{w: tabwriter.NewWriter(c.env.stdout, 0, 8, 2, ' ', 0)}
	w.checks(r)
	w.plugins(r)
	w.choice(r)
	w.lock(mismatches, o)
	return errors.Join(w.err, w.w.Flush())
}

// matrix prints the result as a table; the first error of the writer is kept.
type matrix struct {
	w   *tabwriter.Writer
	err error
}

func (m *matrix) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(m.w, format, args...); m.err == nil {
		m.err = err
	}
}

func (m *matrix) line(v fingerprint.Verdict, name, detail, remedy string) {
	m.printf("  %-4s\t%s\t%s\n", v, name, oneLine(detail))
	if remedy != "" {
		m.printf("  \t\t-> %s\n", oneLine(remedy))
	}
}

// oneLine keeps what a plugin says from breaking the table or the terminal.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

func (m *matrix) checks(r *fingerprint.Result) {
	m.printf("NODE\n")
	for _, c := range r.Checks {
		m.line(c.Verdict, c.Name, c.Detail, c.Remedy)
	}
}

func (m *matrix) plugins(r *fingerprint.Result) {
	m.printf("\nPLUGINS\n")
	if len(r.Plugins) == 0 {
		m.line(fingerprint.Fail, "none", "no wavry-capture-* or wavry-encode-* binary found", "run `make build`, install the plugins beside wavry, or set -plugin-dirs")
	}
	for _, p := range r.Plugins {
		if len(p.Methods) == 0 {
			m.line(p.Verdict, p.Name, p.Reason, p.Remedy)
		}
		for _, method := range p.Methods {
			m.line(method.Verdict, p.Name+"/"+method.Name, method.Reason+proof(method), method.Remedy)
		}
	}
}

func proof(m fingerprint.Method) string {
	if m.Frames == 0 {
		return ""
	}
	s := fmt.Sprintf(" (%d frames, %d distinct, p50 %.1f ms, p95 %.1f ms", m.Frames, m.Distinct, m.P50, m.P95)
	if len(m.Codecs) > 0 {
		s += ", " + strings.Join(m.Codecs, " ")
	}
	return s + ")"
}

func (m *matrix) choice(r *fingerprint.Result) {
	m.printf("\nCHOICE\n")
	if err := r.Check(r.Order); err != nil {
		m.line(fingerprint.Warn, "order", err.Error(), "correct the order; what it names and is not there is passed over")
	}
	for _, role := range []struct {
		name string
		list []fingerprint.Choice
	}{{"capture", r.Captures}, {"encoder", r.Encoders}} {
		if len(role.list) == 0 {
			m.line(fingerprint.Fail, role.name, "no usable "+role.name+" plugin", "follow a remedy above")
		}
		for _, c := range role.list {
			m.line(fingerprint.OK, role.name, c.Plugin+" by "+strings.Join(c.Methods, ", ")+": "+c.Reason, "")
		}
	}
	if j := r.Joint; j != nil {
		m.line(j.Verdict, "together", fmt.Sprintf("%s with %s: %s; p50 hand-off %.1f, encode %.1f, crossing %.1f ms",
			j.Capture, j.Encoder, j.Reason, j.HandoffP50, j.EncodeP50, j.CrossingP50), j.Remedy)
	}
	if r.Usable() {
		m.printf("\nA session can run on this machine.\n")
	} else {
		m.printf("\nNo session can run on this machine.\n")
	}
}

func (m *matrix) lock(mismatches []fingerprint.Mismatch, o doctorOptions) {
	if o.lock == "" {
		return
	}
	for _, x := range mismatches {
		m.line(fingerprint.Warn, "lock", x.String(), "install the pinned version, or pin the new one with -write-lock after testing it")
	}
	if len(mismatches) == 0 {
		m.printf("All versions are as pinned in %s.\n", o.lock)
	}
}
