// Package fleet starts a real fleet on this machine: three Consul servers with access control, a Nomad server, three Nomad clients
// with different metadata, and every part of the system as a job of jobs/. `make fleet` and the fleet's tests use it. Everything
// lives in one temporary folder and on loopback, and Close leaves nothing.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	consul "github.com/hashicorp/consul/api"
	nomad "github.com/hashicorp/nomad/api"
	"golang.org/x/sync/errgroup"
)

// Config says what to start.
type Config struct {
	Root     string   // checkout, with bin/ built
	Engines  string   // folder of the consul and nomad binaries
	Desktops []string // of sway, gnome, kde: those that are run
	Size     string   // of the desktops
	Gateway  []string // further variables of the gateways' job, NAME=VALUE
	Log      io.Writer
}

// Fleet is a running fleet.
type Fleet struct {
	cfg     Config
	dir     string
	ports   ports
	secrets secrets
	servers map[string]*server

	Nomad  *nomad.Client
	Consul *consul.Client
}

// Start starts everything and returns when every part answers. When it fails it has removed what it started.
func Start(ctx context.Context, cfg Config) (f *Fleet, err error) {
	dir, err := os.MkdirTemp("", "wf")
	if err != nil {
		return nil, err
	}
	f = &Fleet{cfg: cfg, dir: dir, servers: map[string]*server{}}
	defer func() {
		if err != nil {
			f.ShowLogs()
			err = errors.Join(err, f.Close())
		}
	}()
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"prepare", f.prepare}, {"Consul", f.startConsul}, {"Nomad", f.startNomad}, {"access", f.setUpAccess},
		{"database and masters", f.runBase}, {"gateways, relays and hosts", f.runRest},
	} {
		began := time.Now()
		if err := step.do(ctx); err != nil {
			return f, fmt.Errorf("%s: %w", step.name, err)
		}
		f.say("%-28s %.1f s", step.name, time.Since(began).Seconds())
	}
	return f, nil
}

func (f *Fleet) say(format string, args ...any) {
	if f.cfg.Log != nil {
		fmt.Fprintf(f.cfg.Log, "  "+format+"\n", args...)
	}
}

// prepare makes folders, secrets, and a copy of the binaries that the desktops' user may run.
func (f *Fleet) prepare(context.Context) error {
	if err := os.Chmod(f.dir, 0o711); err != nil {
		return err
	}
	folders := []string{"bin", "logs", "run", "backup"}
	for _, node := range Nodes {
		// PostgreSQL must get in, whoever writes there first; Nomad's own directory must be passable for tasks of ordinary users.
		folders = append(folders, filepath.Join(node, "data"), filepath.Join(node, "n"))
	}
	for _, d := range folders {
		if err := os.MkdirAll(filepath.Join(f.dir, d), 0o711); err != nil {
			return err
		}
	}
	binaries, err := filepath.Glob(filepath.Join(f.cfg.Root, "bin", "wavry*"))
	if err != nil {
		return err
	}
	if len(binaries) < 2 {
		return fmt.Errorf("no binaries in %s/bin: run make build", f.cfg.Root)
	}
	for _, b := range binaries {
		if err := copyFile(b, filepath.Join(f.dir, "bin", filepath.Base(b))); err != nil {
			return err
		}
	}
	if f.ports, err = choosePorts(); err != nil {
		return err
	}
	return f.makeSecrets()
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// runBase starts what the others need.
func (f *Fleet) runBase(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		port := fmt.Sprint(f.ports.postgres)
		if err := f.Run(ctx, "postgres", "port="+port); err != nil {
			return err
		}
		return f.waitListening(ctx, port)
	})
	g.Go(func() error {
		return f.runPassing(ctx, 3, "master", "api_port=0", "key_publish_ahead=5s", "probation_time=5s", "probation_successes=3", "nomad_jwks_url="+f.jwksURL(),
			`host_rules=["wavry-host-{name}@*={name}/1", "wavry-host-spare@*=sway/1"]`)
	})
	return g.Wait()
}

// runRest starts what people and sessions use.
func (f *Fleet) runRest(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return f.runPassing(ctx, 2, "relay", "control_port=0", "first_media_port=0", "media_ports=8", "drain_timeout=10s")
	})
	g.Go(func() error {
		return f.runPassing(ctx, len(Nodes), "gateway", append([]string{fmt.Sprintf("count=%d", len(Nodes)), "http_port=0", "tls=false", "open_pools=*"}, f.cfg.Gateway...)...)
	})
	g.Go(func() error { return f.Run(ctx, "backup") })
	g.Go(func() error {
		if err := f.Run(ctx, "prometheus", "driver=raw_exec", "tier=dev", "http_port=0"); err != nil {
			return err
		}
		return f.Wait(ctx, "Prometheus is ready", f.prometheusReady)
	})
	g.Go(func() error {
		for _, kind := range f.cfg.Desktops {
			if err := f.RunHost(ctx, kind); err != nil {
				return err
			}
		}
		return f.Passing(ctx, "wavry-host", len(f.cfg.Desktops))
	})
	return g.Wait()
}

// runPassing runs a job and waits until count of its instances pass in Consul.
func (f *Fleet) runPassing(ctx context.Context, count int, file string, vars ...string) error {
	if err := f.Run(ctx, file, vars...); err != nil {
		return err
	}
	return f.Passing(ctx, "wavry-"+file, count)
}

// RunHost starts the host of a kind of desktop, without waiting for it.
func (f *Fleet) RunHost(ctx context.Context, kind string, vars ...string) error {
	file := map[string]string{"sway": "host-wlroots"}[kind]
	if file == "" {
		file = "host-" + kind
	}
	return f.Run(ctx, file, append([]string{"size=" + f.cfg.Size, "drain_timeout=5s", "run_dir=" + filepath.Join(f.dir, "run")}, vars...)...)
}
