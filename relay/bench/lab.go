//go:build linux

package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Addresses of the lab.
const (
	sourceIP  = "10.201.1.1"
	relayNear = "10.201.1.2" // towards the source
	relayFar  = "10.201.2.1" // towards the sink
	sinkIP    = "10.201.2.2"

	relayCPU = "0"
	otherCPU = "1"
)

//go:embed forwarder.c.txt
var forwarderSource []byte

// lab is the namespaces and the programs that run in them.
type lab struct {
	dir        string
	self       string
	forwarder  string
	softEgress bool
	ns         [3]string // source, relay, sink
}

func newLab(ctx context.Context, softEgress bool) (l *lab, err error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("needs root for network namespaces")
	}
	for _, tool := range []string{"ip", "ethtool", "taskset", "gcc", "turnserver"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("needs %s: apt-get install iproute2 ethtool util-linux gcc coturn", tool)
		}
	}
	l = &lab{softEgress: softEgress}
	if l.dir, err = os.MkdirTemp("", "relay-bench"); err != nil {
		return nil, err
	}
	if l.self, err = os.Executable(); err != nil {
		return nil, err
	}
	if err = l.compile(ctx); err == nil {
		err = l.join(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

func (l *lab) compile(ctx context.Context) error {
	source := filepath.Join(l.dir, "forwarder.c")
	if err := os.WriteFile(source, forwarderSource, 0o600); err != nil {
		return err
	}
	l.forwarder = filepath.Join(l.dir, "forwarder")
	return command(ctx, "gcc", "-O2", "-Wall", "-o", l.forwarder, source)
}

// join builds the namespaces.
func (l *lab) join(ctx context.Context) error {
	for i, name := range []string{"src", "rel", "snk"} {
		l.ns[i] = fmt.Sprintf("wb%d-%s", os.Getpid(), name)
	}
	src, rel, snk := l.ns[0], l.ns[1], l.ns[2]
	lines := []string{
		"ip netns add " + src, "ip netns add " + rel, "ip netns add " + snk,
		"ip -n " + src + " link add e0 type veth peer name near netns " + rel,
		"ip -n " + snk + " link add e0 type veth peer name far netns " + rel,
		"ip -n " + src + " addr add " + sourceIP + "/24 dev e0", "ip -n " + rel + " addr add " + relayNear + "/24 dev near",
		"ip -n " + rel + " addr add " + relayFar + "/24 dev far", "ip -n " + snk + " addr add " + sinkIP + "/24 dev e0",
		"ip -n " + src + " link set e0 up", "ip -n " + snk + " link set e0 up", "ip -n " + rel + " link set near up",
		"ip -n " + rel + " link set far up", "ip -n " + rel + " link set lo up",
		"ip -n " + src + " route add default via " + relayNear, "ip -n " + snk + " route add default via " + relayFar,
		"ip netns exec " + rel + " sysctl -qw net.ipv4.ip_forward=1",
		"ip netns exec " + src + " ethtool -K e0 tx-udp-segmentation off tso off",
		"ip netns exec " + rel + " ethtool -K near gro on",
		"ip netns exec " + rel + " ethtool -K far tx-udp-segmentation " + map[bool]string{true: "off", false: "on"}[l.softEgress],
	}
	for i := 1; i < manyFlows; i++ {
		lines = append(lines, fmt.Sprintf("ip -n %s addr add %s/24 dev e0", snk, sinkAddr(0, i).Addr()))
	}
	return script(ctx, lines)
}

func (l *lab) close() error {
	var errs []error
	for _, ns := range l.ns {
		if ns != "" {
			errs = append(errs, command(context.Background(), "ip", "netns", "del", ns))
		}
	}
	return errors.Join(append(errs, os.RemoveAll(l.dir))...)
}

func script(ctx context.Context, lines []string) error {
	for _, line := range lines {
		words := strings.Fields(line)
		if err := command(ctx, words[0], words[1:]...); err != nil {
			return err
		}
	}
	return nil
}

func command(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
