package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/hashicorp/cli"
	"golang.org/x/sync/errgroup"

	"github.com/wavry/fleet/hostruntime/asroot"
	"github.com/wavry/fleet/hostruntime/desktop"
	"github.com/wavry/fleet/hostruntime/pluginhost"
)

// devCommands is `wavry dev`.
func devCommands(env *environment) map[string]cli.CommandFactory {
	return map[string]cli.CommandFactory{
		"dev": func() (cli.Command, error) { return &devCommand{env: env}, nil },
	}
}

type devCommand struct {
	env        *environment
	forceRelay bool
}

func (c *devCommand) Synopsis() string { return "Run the whole system on this machine, with a desktop" }

func (c *devCommand) Help() string {
	return strings.TrimSpace(`
Usage: wavry dev [options]

  Runs master, gateway, relay and host in one process. Streams the running Wayland desktop or, when there is none, starts a headless
  one, and prints a sign-in link. As root the desktop and the plugins run as an unprivileged user. Takes the options of wavry host
  (-http-addr is the gateway's), and:

  -desktop KIND     auto (default), running, sway, gnome, kde, or test for a test picture
  -size WxH         size of a desktop that is started
  -app "COMMAND"    what runs inside it, instead of a terminal
  -force-relay      stream through the relay only

  Operators' commands reach it with what is in operator.env of the state directory, which is the starter's alone.

  It prints warnings only; WAVRY_LOG_LEVEL=info shows what each role does.
`) + "\n\n" + optionHelp("host", new(devConfig()))
}

func (c *devCommand) Run(args []string) int { return c.env.report("dev", c.run(args)) }

// devConfig is what a host has unless a person says otherwise.
func devConfig() hostConfig {
	cfg := defaultHostConfig()
	cfg.ID = "dev"
	cfg.StateDir = filepath.Join(cfg.StateDir, "dev")
	cfg.HTTPAddr = "127.0.0.1:8080"
	return cfg
}

func (c *devCommand) run(args []string) error {
	cfg := devConfig()
	flags := flag.NewFlagSet("dev", flag.ContinueOnError)
	flags.SetOutput(c.env.stderr)
	kind := flags.String("desktop", "auto", "desktop to stream: auto, running, sway, gnome, kde or test")
	size := flags.String("size", desktop.DefaultSize.String(), "size of a desktop that is started, WIDTHxHEIGHT")
	flags.BoolVar(&c.forceRelay, "force-relay", false, "stream through the relay only")
	var apps [][]string
	flags.Func("app", "a command started inside such a desktop, words separated by spaces; may be repeated", func(s string) error {
		apps = append(apps, strings.Fields(s))
		return nil
	})
	if err := loadConfig("host", &cfg, flags, args); err != nil {
		return err
	}
	log, err := c.env.loggerFrom(slog.LevelWarn) // four roles in one terminal: a person looks for the link
	if err != nil {
		return err
	}
	ctx, stop := signalContext()
	defer stop()
	choice, err := chooseDesktop(*kind, os.LookupEnv)
	if err != nil {
		return err
	}
	if choice == desktopTest && len(cfg.Capture) == 0 {
		cfg.Capture = []string{"capture-test"}
	}
	if choice == desktopRunning || choice == desktopTest {
		users, err := cfg.pluginUsers(nil)
		if err != nil {
			return err
		}
		return c.serve(ctx, cfg, log, nil, users)
	}
	return c.withDesktop(ctx, cfg, log, desktop.Config{Kind: desktop.Kind(choice), Apps: apps}, *size)
}

// Choices beside desktop.Kinds.
const (
	desktopRunning = "running"
	desktopTest    = "test"
)

// chooseDesktop resolves auto: the running desktop, or else sway.
func chooseDesktop(kind string, lookup func(string) (string, bool)) (string, error) {
	switch kind {
	case "auto":
		if _, running := lookup("WAYLAND_DISPLAY"); running {
			return desktopRunning, nil
		}
		return string(desktop.Sway), nil
	case desktopRunning, desktopTest, string(desktop.Sway), string(desktop.GNOME), string(desktop.KDE):
		return kind, nil
	}
	return "", fmt.Errorf("-desktop %q: must be auto, running, sway, gnome, kde or test", kind)
}

// withDesktop starts a desktop and streams it. The host ends first: its plugins are clients of the desktop.
func (c *devCommand) withDesktop(ctx context.Context, cfg hostConfig, log *slog.Logger, wish desktop.Config, sizeText string) error {
	size, err := desktop.ParseSize(sizeText)
	if err != nil {
		return err
	}
	wish.Size, wish.Logger, wish.Guard = size, log, []string{"/proc/self/exe", "desktop", "guard"}
	d, err := desktop.New(wish)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.env.stdout, "Starting a %s desktop, %s, and everything that streams it.\n", wish.Kind, size)
	desktopCtx, stopDesktop := context.WithCancel(context.WithoutCancel(ctx))
	defer stopDesktop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g := new(errgroup.Group)
	g.Go(func() error {
		defer cancel() // without a desktop there is nothing to serve
		return d.Run(desktopCtx)
	})
	g.Go(func() error {
		defer stopDesktop()
		select {
		case <-d.Ready():
			return c.serveAs(ctx, cfg, log, d)
		case <-ctx.Done():
			return nil
		}
	})
	return g.Wait()
}

// serveAs streams d with plugins that run as its user.
func (c *devCommand) serveAs(ctx context.Context, cfg hostConfig, log *slog.Logger, d *desktop.Desktop) error {
	users, err := cfg.pluginUsers(nil)
	if err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		dir, err := readablePlugins()
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		cfg.PluginDirs = append([]string{dir}, cfg.PluginDirs...)
		user := d.User()
		users.Capture = &pluginhost.Credential{UID: user.UID, GID: user.GID}
	}
	return c.serve(ctx, cfg, log, d.ClientEnviron(), users)
}

func (c *devCommand) serve(ctx context.Context, cfg hostConfig, log *slog.Logger, environ []string, users *pluginhost.Users) error {
	defer users.Close() // after the last plugin
	reportBox(log, users)
	fleet, err := newDevFleet(cfg, log, environ, users, c.forceRelay)
	if err != nil {
		return err
	}
	return announced(ctx, c.env, fleet.Run, fleet.ready, fleet.SignInURL)
}

// readablePlugins copies the plugins to where the desktop's user sees them: root's checkout is often private, and KWin lets nobody in whose
// program it cannot find. The copies are root's, in a directory where nobody else can exchange them.
func readablePlugins() (dir string, err error) {
	if err := asroot.CheckPath(os.TempDir()); err != nil {
		return "", fmt.Errorf("make a place for plugins: %w", err)
	}
	binaries, err := pluginhost.Discover(pluginhost.DefaultDirs()...)
	if err != nil {
		return "", err
	}
	if dir, err = os.MkdirTemp("", "wavry-plugins-"); err != nil {
		return "", fmt.Errorf("make a place for plugins: %w", err)
	}
	err = os.Chmod(dir, 0o755)
	for _, b := range binaries {
		err = errors.Join(err, copyExecutable(b.Path, filepath.Join(dir, filepath.Base(b.Path))))
	}
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	return dir, nil
}

// copyExecutable holds off forks: a child that inherits the open copy would make its exec fail with ETXTBSY for a moment.
func copyExecutable(from, to string) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	in, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("copy plugin: %w", err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return fmt.Errorf("copy plugin: %w", err)
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
