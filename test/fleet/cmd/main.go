// Command fleet starts a real fleet on this machine and prints how to use it. Ctrl-C ends it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/wavry/fleet/test/fleet"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "fleet:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	desktops := flag.String("desktops", "sway,gnome,kde", "desktops to run, with commas")
	size := flag.String("size", "1280x720", "size of the desktops")
	engines := flag.String("engines", "", "folder of the consul and nomad binaries (scripts/engines consul nomad)")
	root := flag.String("root", ".", "the checkout")
	flag.Parse()
	f, err := fleet.Start(ctx, fleet.Config{Root: *root, Engines: *engines, Desktops: strings.Split(*desktops, ","), Size: *size, Log: os.Stdout})
	if err != nil {
		return err
	}
	defer func() {
		fmt.Println("\n  Stopping jobs and servers")
		err = errors.Join(err, f.Close())
	}()
	link, err := f.Invite(ctx, fleet.Nodes[0], "admin", "admin")
	if err != nil {
		return err
	}
	environ, err := f.OperatorEnviron()
	if err != nil {
		return err
	}
	metrics, err := f.Prometheus()
	if err != nil {
		return err
	}
	fmt.Printf("\n  Sign in:  %s\n  Metrics:  %s\n\n  The link works once, and asks for a password. For operators' commands (wavry, nomad, consul) in another shell:\n\n", link, metrics)
	for _, e := range environ {
		fmt.Println("    export " + e)
	}
	fmt.Print("\n  Ctrl-C ends the fleet.\n\n")
	<-ctx.Done()
	return nil
}
