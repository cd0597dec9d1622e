package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/cli"

	"github.com/wavry/fleet/hostruntime/asroot"
	"github.com/wavry/fleet/hostruntime/desktop"
)

// desktopCommands are `wavry desktop ...`.
func desktopCommands(env *environment) map[string]cli.CommandFactory {
	return map[string]cli.CommandFactory{
		"desktop run":   func() (cli.Command, error) { return &desktopRun{env: env}, nil },
		"desktop guard": func() (cli.Command, error) { return &desktopGuard{env: env}, nil },
	}
}

// desktopConfig is `wavry desktop run`'s configuration file.
type desktopConfig struct {
	Size     string   `hcl:"size,optional" help:"size of the output, WIDTHxHEIGHT"`
	StateDir string   `hcl:"state_dir,optional" help:"directory of the desktop's home and sockets, ours as all above it; empty: a temporary one"`
	User     string   `hcl:"user,optional" help:"UID or UID:GID that runs the desktop, and nothing else on this machine; empty: this user, or when that is root one that nobody has"`
	Apps     []string `hcl:"apps,optional" help:"commands started inside, words separated by spaces; none: a terminal"`
	EnvFile  string   `hcl:"env_file,optional" help:"file that gets the environment for clients, KEY=VALUE lines, while the desktop is ready"`
}

type desktopRun struct{ env *environment }

func (c *desktopRun) Synopsis() string { return "Run a headless desktop in the foreground" }

func (c *desktopRun) Help() string {
	return strings.TrimSpace(`
Usage: wavry desktop run gnome|kde|sway [options]

  Starts a headless desktop with its own buses and PipeWire, restarts what dies, and ends with SIGTERM or SIGINT, leaving nothing
  behind. As root it runs as an unprivileged user of its own, and a host may claim it for one person after the other: it is then
  emptied and started anew between them.
`) + "\n\n" + optionHelp("desktop", &desktopConfig{Size: desktop.DefaultSize.String()},
		[2]string{"app", "a command started inside, words separated by spaces; may be repeated"}, checkConfigHelp)
}

func (c *desktopRun) Run(args []string) int {
	if err := c.run(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		fmt.Fprintln(c.env.stderr, "wavry desktop run:", err)
		return 1
	}
	return 0
}

func (c *desktopRun) run(args []string) error {
	kind, args := desktopKind(args)
	file := desktopConfig{Size: desktop.DefaultSize.String()}
	flags := flag.NewFlagSet("desktop run", flag.ContinueOnError)
	flags.SetOutput(c.env.stderr)
	check := flags.Bool("check-config", false, "check and print the configuration, then exit")
	var apps []string
	flags.Func("app", "a command started inside, words separated by spaces; may be repeated", func(s string) error {
		apps = append(apps, s)
		return nil
	})
	if err := loadConfig("desktop", &file, flags, args); err != nil {
		return err
	}
	file.Apps = append(file.Apps, apps...)
	cfg, err := file.desktop(kind)
	if err != nil {
		return err
	}
	if *check {
		printConfig(c.env, &file)
		return nil
	}
	if cfg.Logger, err = c.env.logger(); err != nil {
		return err
	}
	return c.serve(cfg, file.EnvFile)
}

// desktopKind takes the leading argument that is no flag.
func desktopKind(args []string) (desktop.Kind, []string) {
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		return desktop.Kind(args[0]), args[1:]
	}
	return "", args
}

func (f *desktopConfig) desktop(kind desktop.Kind) (desktop.Config, error) {
	size, sizeErr := desktop.ParseSize(f.Size)
	user, userErr := parseDesktopUser(f.User)
	cfg := desktop.Config{
		Kind: kind, Size: size, StateDir: f.StateDir, User: user,
		Guard: []string{"/proc/self/exe", "desktop", "guard"}, Exclusive: true,
	}
	for _, line := range f.Apps {
		cfg.Apps = append(cfg.Apps, strings.Fields(line))
	}
	return cfg, errors.Join(sizeErr, userErr)
}

func parseDesktopUser(s string) (*desktop.User, error) {
	if s == "" {
		return nil, nil
	}
	u, err := desktop.ParseUser(s)
	return &u, err
}

// serve runs the desktop; the environment file exists while it is ready.
func (c *desktopRun) serve(cfg desktop.Config, envFile string) error {
	d, err := desktop.New(cfg)
	if err != nil {
		return err
	}
	ctx, stop := signalContext()
	defer stop()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	announced := make(chan error, 1)
	go func() { // ends with ctx, or when the desktop is ready
		select {
		case <-d.Ready():
			err := c.announce(d, envFile)
			if err != nil {
				fail(err)
			}
			announced <- err
		case <-ctx.Done():
			announced <- nil
		}
	}()
	err = d.Run(ctx)
	fail(nil)
	err = errors.Join(err, <-announced)
	if envFile != "" {
		err = errors.Join(err, removeIfThere(envFile))
	}
	return err
}

func (c *desktopRun) announce(d *desktop.Desktop, envFile string) error {
	text := strings.Join(d.ClientEnviron(), "\n") + "\n"
	if envFile == "" {
		_, err := fmt.Fprint(c.env.stdout, text)
		return err
	}
	if err := replaceFile(envFile, text); err != nil {
		return fmt.Errorf("env_file: %w", err)
	}
	return nil
}

// replaceFile writes a file that everybody may read, at once and, as root, only where nobody else decides what is written to.
func replaceFile(path, text string) error {
	if err := asroot.CheckPath(path); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, removeIfThere(f.Name()))
	}
	return nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// desktopGuard cleans up after a killed `wavry desktop run`, which starts it.
type desktopGuard struct{ env *environment }

func (c *desktopGuard) Synopsis() string {
	return "Clean up after a killed desktop (started by desktop run)"
}
func (c *desktopGuard) Help() string { return "Usage: wavry desktop guard ID DIRECTORY UID:GID < pipe" }

func (c *desktopGuard) Run(args []string) int {
	if len(args) != 3 {
		return cli.RunResultHelp
	}
	if err := desktop.Guard(os.Stdin, args[0], args[1], args[2]); err != nil {
		fmt.Fprintln(c.env.stderr, "wavry desktop guard:", err)
		return 1
	}
	return 0
}
