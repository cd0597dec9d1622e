// Command bench measures the master beside etcd on one machine: lease issue through the API on three local servers with fsync against a put of the same
// size into three local etcd servers; failover; and the size of snapshots. Rounds are interleaved, so that both meet the same machine.
//
//	go run ./master/bench                 everything
//	go run ./master/bench -only=rate      rate and latency beside etcd
//	go run ./master/bench -only=failover  kill -9 of the leader under load
//	go run ./master/bench -only=scale     snapshot and restore of 10,000 relays, 20,000 hosts, 1,000,000 leases
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"time"
)

type options struct {
	only     string
	rounds   int
	seconds  float64
	inFlight int
	kills    int
	dir      string
	leases   int
	profile  string
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == serverArg {
		exit(serve(os.Args[2:]))
	}
	if len(os.Args) > 1 && os.Args[1] == scaleArg {
		exit(scale(os.Args[2:]))
	}
	var o options
	flag.StringVar(&o.only, "only", "", "rate, failover or scale; empty: all")
	flag.IntVar(&o.rounds, "rounds", 5, "interleaved rounds")
	flag.Float64Var(&o.seconds, "seconds", 4, "length of one measurement")
	flag.IntVar(&o.inFlight, "in-flight", 256, "requests in flight of the loaded measurement")
	flag.IntVar(&o.kills, "kills", 12, "leaders killed")
	flag.StringVar(&o.dir, "dir", "", "directory for data; it must be on a disk that syncs; empty: the system's temporary one")
	flag.IntVar(&o.leases, "leases", 1_000_000, "leases of the scale measurement")
	flag.StringVar(&o.profile, "profile", "", "directory for CPU profiles of the servers")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	exit(run(ctx, o))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(ctx context.Context, o options) (err error) {
	dir, err := os.MkdirTemp(o.dir, "wavry-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	for _, part := range []struct {
		name string
		run  func(context.Context, options, string) error
	}{{"rate", rate}, {"failover", failover}, {"scale", scaleProcess}} {
		if o.only != "" && o.only != part.name {
			continue
		}
		if err := part.run(ctx, o, dir); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// child is a process this benchmark started.
type child struct {
	cmd *exec.Cmd
	log *os.File
}

func start(logPath, name string, args ...string) (*child, error) {
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	return &child{cmd, log}, nil
}

// kill ends the process at once, as a power cut would.
func (c *child) kill() {
	_ = c.cmd.Process.Kill() // it may be gone already
	_ = c.cmd.Wait()
	_ = c.log.Close()
}

// terminate lets the process end by itself, so that it can write its profile.
func (c *child) terminate() {
	_ = c.cmd.Process.Signal(os.Interrupt)
	done := make(chan struct{})
	go func() { _ = c.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		_ = c.cmd.Process.Kill()
		<-done
	}
	_ = c.log.Close()
}
