//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wavry/fleet/master/lease"
	"github.com/wavry/fleet/relay/relayclient"
)

// badBinds floods the control port with 100,000 BINDs per second whose MAC1 is wrong and takes off what it costs to receive as much
// noise.
func (r *runner) badBinds(ctx context.Context) error {
	var extra []float64
	for range r.o.rounds {
		noise, err := r.flood(ctx, false)
		if err != nil {
			return err
		}
		bad, err := r.flood(ctx, true)
		if err != nil {
			return err
		}
		extra = append(extra, (bad-noise)*100)
	}
	slices.Sort(extra)
	value := median(extra)
	r.report.target(fmt.Sprintf("100 kpps of bad BINDs, beyond receiving, %% of a core: %s", spread(extra, "%.1f")), value, "<=", 15)
	return nil
}

// flood returns the share of a core that the relay uses.
func (r *runner) flood(ctx context.Context, bind bool) (float64, error) {
	subject, ready, err := r.startRelay(ctx, 0)
	if err != nil {
		return 0, err
	}
	defer subject.kill()
	const rate = 100_000
	source, err := r.role(ctx, 0, otherCPU, "role-flood", floodArgs{To: ready.Control, PPS: rate, Length: r.o.length, Good: bind})
	if err != nil {
		return 0, err
	}
	defer source.end()
	before, err := subject.cpuTime()
	if err != nil {
		return 0, err
	}
	var s sent
	if err := source.read(&s); err != nil {
		return 0, err
	}
	after, err := subject.cpuTime()
	if err != nil {
		return 0, err
	}
	if got := float64(s.Packets) / s.Took.Seconds(); got < 0.5*rate { // a busy machine; the cost is per packet
		return 0, fmt.Errorf("the source reached %.0f packets per second only", got)
	}
	return (after - before).Seconds() / float64(s.Packets) * rate, nil
}

const circuits = 10_000

// memory makes 10,000 circuits with both legs, through the front door, and looks at the relay's process.
func (r *runner) memory(ctx context.Context) error {
	p, err := r.role(ctx, 1, relayCPU, "role-relay", relayArgs{Dir: r.dir, Keys: []lease.Key{r.key}, Loopback: true})
	if err != nil {
		return err
	}
	defer p.kill()
	var ready relayReady
	if err := p.read(&ready); err != nil {
		return err
	}
	before, err := look(p)
	if err != nil {
		return err
	}
	source, err := r.role(ctx, 1, otherCPU, "role-crowd", crowdArgs{Relay: ready, Key: r.seed, Circuits: circuits})
	if err != nil {
		return err
	}
	defer source.end()
	var made int
	if err := source.read(&made); err != nil {
		return err
	}
	after, err := look(p)
	if err != nil {
		return err
	}
	if made != circuits || after.Circuits != circuits {
		return fmt.Errorf("%d circuits made, the relay has %d", made, after.Circuits)
	}
	fmt.Printf("\nmemory: heap %d -> %d kB, resident %d -> %d kB, descriptors %d -> %d\n", before.Heap>>10, after.Heap>>10, before.Resident>>10,
		after.Resident>>10, before.Descriptors, after.Descriptors)
	heap := float64(after.Heap-before.Heap) / circuits
	r.report.target(fmt.Sprintf("live memory per circuit at 10,000 circuits, bytes (after garbage collection): %.0f", heap), heap, "<=", 1024)
	resident := float64(after.Resident-before.Resident) / circuits
	r.report.target(fmt.Sprintf("resident memory per circuit, caches and collector's slack included, bytes: %.0f", resident), resident, "", 0)
	files := float64(after.Descriptors - before.Descriptors)
	r.report.target(fmt.Sprintf("file descriptors for 10,000 circuits: %.0f", files), files, "<=", 0)
	return nil
}

// footprint is what a relay's process holds.
type footprint struct {
	Heap, Resident        int64 // bytes
	Descriptors, Circuits int
}

// look asks the relay's role, which collects garbage first, and the kernel.
func look(p *process) (f footprint, err error) {
	if err := errors.Join(p.tell("look"), p.read(&f)); err != nil {
		return f, err
	}
	pid := p.cmd.Process.Pid
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return f, err
	}
	for line := range bytes.Lines(status) {
		if words := strings.Fields(string(line)); len(words) > 1 && words[0] == "VmRSS:" {
			kb, err := strconv.ParseInt(words[1], 10, 64)
			if err != nil {
				return f, err
			}
			f.Resident = kb << 10
		}
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	f.Descriptors = len(fds)
	return f, err
}

type crowdArgs struct {
	Relay    relayReady
	Key      []byte // Ed25519 seed of the signer
	Circuits int
}

const perHost = 60

// roleCrowd is many hosts, each at an address of its own in 127/8, with as many circuits as one host address may have, and as many
// viewers.
func roleCrowd(args []string) error {
	a, err := decode[crowdArgs](args)
	if err != nil {
		return err
	}
	signer, err := signerFrom(a.Key)
	if err != nil {
		return err
	}
	ctx := untilClosed()
	var wg sync.WaitGroup
	for first := 0; first < a.Circuits; first += perHost {
		n := min(perHost, a.Circuits-first)
		if err := crowdHost(ctx, &wg, a.Relay, signer, first, n); err != nil {
			return fmt.Errorf("host of circuit %d: %w", first, err)
		}
	}
	if err := say(a.Circuits); err != nil {
		return err
	}
	wg.Wait()
	return nil
}

func loopback(net byte, n int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, net, byte(n >> 8), byte(n)})
}

func crowdHost(ctx context.Context, wg *sync.WaitGroup, relay relayReady, signer *lease.Signer, first, n int) error {
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback(10, first/perHost+1), 0)))
	if err != nil {
		return err
	}
	bound, ended := make(chan netip.AddrPort, n), make(chan error, n)
	clients := make([]*relayclient.Client, n)
	for i := range clients {
		c := benchClaims(uint64(first + i + 1))
		c.ViewerAddress = loopback(20, first+i+1)
		token, err := signer.SignCircuit(c)
		if err != nil {
			return err
		}
		clients[i], err = relayclient.New(relayclient.Config{
			Relay: relay.Control, PublicKey: relay.Key, Token: token,
			Offer: func(candidate uint32, _ []byte) { clients[i].Confirm(candidate) },
			Send:  func(b []byte, to netip.AddrPort) error { _, err := conn.WriteToUDPAddrPort(b, to); return err },
			Notify: func(e relayclient.Event) {
				if e.Kind == relayclient.Bound {
					bound <- e.Media
					sayHello(c.ViewerAddress, e.Media)
				}
			},
		})
		if err != nil {
			return err
		}
	}
	go func() {
		for b := make([]byte, 2048); ; {
			k, from, err := conn.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			for _, c := range clients {
				if c.HandlePacket(from, b[:k], time.Now()) {
					break
				}
			}
		}
	}()
	for _, c := range clients {
		wg.Go(func() {
			if err := c.Run(ctx); err != nil {
				ended <- err
			}
		})
	}
	for range n {
		select {
		case <-bound:
		case err := <-ended:
			return err
		}
	}
	return nil
}

// sayHello is the first packet of a viewer.
func sayHello(from netip.Addr, to netip.AddrPort) {
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0)))
	if err != nil {
		fmt.Fprintln(os.Stderr, "viewer:", err)
		return
	}
	defer conn.Close()
	hello := make([]byte, payload)
	copy(hello, []byte{0xc0, 0, 0, 0, 1, 8})
	hello[6] = 1 // no connection id begins with a circuit's number
	conn.WriteToUDPAddrPort(hello, to)
}

// leases runs the Go benchmark of a whole BIND with a lease never seen before.
func (r *runner) leases(ctx context.Context) error {
	args := []string{"-n", "-20", "taskset", "-c", relayCPU, "go", "test", "-run", "^$", "-bench", "^BenchmarkNewLease$", "-cpu", "1", "-count", strconv.Itoa(r.o.rounds), "-json",
		"github.com/wavry/fleet/relay"}
	cmd := exec.CommandContext(ctx, "nice", args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("go test: %w", err)
	}
	var rates []float64
	for line := range bytes.Lines(out) {
		var e struct{ Output string }
		if json.Unmarshal(line, &e) != nil {
			continue
		}
		words := strings.Fields(e.Output)
		for i, w := range words {
			if w == "cpu-ns/op" && i > 0 {
				ns, err := strconv.ParseFloat(words[i-1], 64)
				if err != nil {
					return err
				}
				rates = append(rates, 1e9/ns/1000)
			}
		}
	}
	if len(rates) == 0 {
		return errors.New("go test printed no result")
	}
	slices.Sort(rates)
	r.report.target("new leases checked per second and core, thousands (open, verify, bind, answer): "+spread(rates, "%.1f"), median(rates), ">=", 10)
	return nil
}

func policyFile(dir string) string { return filepath.Join(dir, "policy.json") }
