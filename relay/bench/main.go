//go:build linux

// Command bench measures the relay beside coturn and a minimal forwarder in C, in three network namespaces joined by veth:
//
//	source --- relay --- sink
//
// The program under test has one core for itself (CPU 0), source and sink share the other. The source's veth segments in software
// and the relay's does too, so that every packet is a packet as on a network card without UDP segmentation. Rounds are
// interleaved, so that a machine that gets slower gets slower for everybody; the medians of the rounds are compared.
//
// It needs root, iproute2, ethtool, util-linux (taskset), gcc and coturn. Run it with
//
//	go run ./relay/bench
//
// The names of measurements (-only): bursts, singles, fixed, latency, memory, leases, badbinds.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], "role-") {
		fail(runRole(os.Args[1], os.Args[2:]))
		return
	}
	var o options
	flag.IntVar(&o.rounds, "rounds", 5, "interleaved rounds")
	flag.DurationVar(&o.length, "length", 2*time.Second, "length of one measurement")
	flag.StringVar(&o.only, "only", "", "comma-separated measurements; empty: all")
	flag.BoolVar(&o.strict, "strict", false, "exit 1 when a target is missed")
	flag.BoolVar(&o.softEgress, "soft-egress", false, "let the kernel segment on the relay's way out, as for a network card without UDP segmentation")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	fail(bench(ctx, o))
}

type options struct {
	rounds     int
	length     time.Duration
	only       string
	strict     bool
	softEgress bool
}

func (o options) wants(name string) bool {
	if o.only == "" {
		return true
	}
	for s := range strings.SplitSeq(o.only, ",") {
		if s == name {
			return true
		}
	}
	return false
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func runRole(role string, args []string) error {
	switch role {
	case "role-relay":
		return roleRelay(args)
	case "role-source":
		return roleSource(args)
	case "role-sink":
		return roleSink(args)
	case "role-spin":
		for end := time.Now().Add(10 * time.Minute); time.Now().Before(end); { // its parent kills it
		}
		return nil
	case "role-crowd":
		return roleCrowd(args)
	case "role-flood":
		return roleFlood(args)
	}
	return fmt.Errorf("unknown role %s", role)
}
