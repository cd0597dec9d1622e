//go:build linux

package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/wavry/fleet/master/lease"
)

// Names of what is compared.
const (
	ours     = "wavry"
	oursPoll = "wavry, busy_poll"
	coturn   = "coturn"
	cfwd     = "c-mmsg-gso"
	cfwdPoll = "c-mmsg-gso, polling"
	bare     = "bare hop"
)

// busyPoll is what oursPoll runs with: longer than the pauses between packets, so that it is always awake, as cfwdPoll is.
const busyPoll = 20 * time.Millisecond

const (
	sinkPort    = 30000
	forwardPort = 9000
	turnPort    = 3478
	manyFlows   = 100
)

// result is one measurement of one program.
type result struct {
	pps     float64 // arrived per second
	perCore float64 // arrived per second of CPU time of the program
	cpu     float64 // CPU time per packet, microseconds
	lost    float64 // share of what was sent
	p50     time.Duration
	p99     time.Duration
}

type runner struct {
	*lab
	o        options
	signer   *lease.Signer
	key      lease.Key
	seed     []byte
	report   report
	spinners []*process
}

func bench(ctx context.Context, o options) (err error) {
	l, err := newLab(ctx, o.softEgress)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	r := &runner{lab: l, o: o, key: lease.Key{ID: "bench", Public: public}, seed: private.Seed()}
	if r.signer, err = signerFrom(r.seed); err != nil {
		return err
	}
	r.report.head()
	for _, step := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"bursts", r.bursts}, {"singles", r.singles}, {"fixed", r.fixed}, {"latency", r.latency}, {"badbinds", r.badBinds},
		{"memory", r.memory}, {"leases", r.leases},
	} {
		if !o.wants(step.name) {
			continue
		}
		if err := step.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return r.report.verdict(o.strict)
}

// bursts: one flow, 16 datagrams per segmented send, as fast as possible.
func (r *runner) bursts(ctx context.Context) error {
	all, err := r.rounds(ctx, []string{ours, coturn, cfwd}, 1, order{Burst: 16, Length: r.o.length})
	if err != nil {
		return err
	}
	r.report.table("bursts of 16, one flow, saturated", all)
	r.report.ratio("packets per second per core, bursts, / coturn", all, ours, coturn, perCore, ">=", 3)
	r.report.ratio("packets per second per core, bursts, / C forwarder", all, ours, cfwd, perCore, ">=", 0.75)
	return nil
}

// singles: one datagram of each of 100 flows in turn, as fast as possible.
func (r *runner) singles(ctx context.Context) error {
	all, err := r.rounds(ctx, []string{ours, coturn, cfwd}, manyFlows, order{Burst: 1, Length: r.o.length})
	if err != nil {
		return err
	}
	r.report.table("singles interleaved over 100 flows, saturated", all)
	r.report.ratio("packets per second per core, singles, / coturn", all, ours, coturn, perCore, ">=", 1.1)
	r.report.ratio("packets per second per core, singles, / C forwarder", all, ours, cfwd, perCore, "", 0)
	return nil
}

// fixed: bursts of 16 at 65 kpps.
func (r *runner) fixed(ctx context.Context) error {
	all, err := r.rounds(ctx, []string{ours, coturn, cfwd}, 1, order{Burst: 16, PPS: 65_000, Length: r.o.length})
	if err != nil {
		return err
	}
	r.report.table("bursts of 16, one flow, 65 kpps", all)
	r.report.ratio("CPU per packet at 65 kpps, / coturn", all, ours, coturn, cpuPerPacket, "<=", 0.75)
	return nil
}

// latency: single datagrams, 1000 per second, one way, beside a hop that the kernel routes. First with spinners of the lowest
// priority on both CPUs, which keep a virtual machine from halting its CPUs (as idle=poll does), so that the relay is measured and not
// the hypervisor; then without, as information.
func (r *runner) latency(ctx context.Context) error {
	everybody := []string{ours, oursPoll, coturn, cfwd, cfwdPoll, bare}
	o := order{Burst: 1, PPS: 1000, Length: r.o.length, Stamp: true}
	for _, cpu := range []string{relayCPU, otherCPU} {
		spinner, err := r.start(ctx, 1, cpu, "chrt", "-i", "0", r.self, "role-spin")
		if err != nil {
			return err
		}
		defer spinner.kill()
		r.spinners = append(r.spinners, spinner)
	}
	all, err := r.rounds(ctx, everybody, 1, o)
	if err != nil {
		return err
	}
	r.report.latencies("one way, 1000 singles per second, CPUs kept awake", all)
	r.report.difference("added latency p50 over the bare hop, busy polling, us", all, oursPoll, bare, "<=", 35)
	r.report.difference("added latency p50 over the bare hop, defaults, us", all, ours, bare, "", 0)
	r.report.difference("added latency p50 over the C forwarder, both polling, us", all, oursPoll, cfwdPoll, "", 0)
	for _, s := range r.spinners {
		s.kill()
	}
	if all, err = r.rounds(ctx, everybody, 1, o); err != nil {
		return err
	}
	r.report.latencies("one way, 1000 singles per second, CPUs halt when idle", all)
	r.report.difference("added latency p50 over the bare hop, busy polling, CPUs halting, us", all, oursPoll, bare, "", 0)
	r.report.difference("added latency p50 over the bare hop, defaults, CPUs halting, us", all, ours, bare, "", 0)
	r.report.difference("added latency p50 over the C forwarder, defaults, CPUs halting, us", all, ours, cfwd, "", 0)
	return nil
}

// rounds measures all programs in turn, o.rounds times.
func (r *runner) rounds(ctx context.Context, names []string, flows int, o order) (map[string][]result, error) {
	all := map[string][]result{}
	for range r.o.rounds {
		for _, name := range names {
			one, err := r.measure(ctx, name, flows, o)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			all[name] = append(all[name], one)
		}
	}
	return all, nil
}

// measure runs one program fresh and lets packets through it.
func (r *runner) measure(ctx context.Context, name string, flows int, o order) (result, error) {
	subject, source, media, err := r.prepare(ctx, name, flows)
	if err != nil {
		return result{}, err
	}
	if subject != nil {
		defer subject.kill()
	}
	defer source.end()
	args := sinkArgs{Flows: flows, Port: sinkPort, Stamp: o.Stamp}
	if name == ours || name == oursPoll {
		args.Hello = media
	}
	sink, err := r.role(ctx, 2, otherCPU, "role-sink", args)
	if err != nil {
		return result{}, err
	}
	defer sink.end()
	var ready string
	if err := sink.read(&ready); err != nil {
		return result{}, err
	}
	if err := warm(source, o); err != nil {
		return result{}, err
	}
	if o.Stamp {
		return r.measureLatency(source, sink, o)
	}
	return r.measureRate(subject, source, o)
}

func warm(source *process, o order) error {
	o.Length /= 8
	var s sent
	return errors.Join(source.tell(o), source.read(&s))
}

func (r *runner) measureRate(subject, source *process, o order) (result, error) {
	cpu0, err0 := subject.cpuTime()
	n0, err1 := r.received()
	var s sent
	err2 := errors.Join(source.tell(o), source.read(&s))
	n1, err3 := r.received()
	cpu1, err4 := subject.cpuTime()
	if err := errors.Join(err0, err1, err2, err3, err4); err != nil {
		return result{}, err
	}
	n, used := float64(n1-n0), (cpu1 - cpu0).Seconds()
	return result{
		pps: n / s.Took.Seconds(), perCore: n / used, cpu: used / n * 1e6, lost: max(0, 1-n/float64(s.Packets)),
	}, nil
}

func (r *runner) measureLatency(source, sink *process, o order) (result, error) {
	var s sent
	if err := errors.Join(source.tell(o), source.read(&s)); err != nil {
		return result{}, err
	}
	sink.stdin.Close()
	var l latencies
	if err := sink.read(&l); err != nil {
		return result{}, err
	}
	return result{p50: l.P50, p99: l.P99, lost: max(0, 1-float64(l.N)/float64(s.Packets)*0.88)}, nil
}

// prepare starts the program under test and a source that is ready to send through it.
func (r *runner) prepare(ctx context.Context, name string, flows int) (subject, source *process, media []netip.AddrPort, err error) {
	args := sourceArgs{Via: viaPlain, Flows: flows, SinkPort: sinkPort}
	near := netip.MustParseAddr(relayNear)
	switch name {
	case ours, oursPoll:
		args.Via = viaRelay
		poll := time.Duration(0)
		if name == oursPoll {
			poll = busyPoll
		}
		subject, args.Relay, err = r.startRelay(ctx, poll)
		if err == nil {
			args.Tokens, err = r.tokens(flows)
		}
	case coturn:
		args.Via, args.To = viaTURN, netip.AddrPortFrom(near, turnPort)
		subject, err = r.startCoturn(ctx)
	case cfwd, cfwdPoll:
		args.To = netip.AddrPortFrom(near, forwardPort)
		how := "wait"
		if name == cfwdPoll {
			how = "poll"
		}
		subject, err = r.start(ctx, 1, relayCPU, r.forwarder, strconv.Itoa(forwardPort), strconv.Itoa(fromPort), strconv.Itoa(flows), sinkIP,
			strconv.Itoa(sinkPort), how)
	case bare:
		args.To = netip.AddrPortFrom(netip.MustParseAddr(sinkIP), sinkPort)
	}
	if err == nil {
		source, err = r.role(ctx, 0, otherCPU, "role-source", args)
	}
	if err == nil {
		err = source.read(&media)
	}
	if err != nil && subject != nil {
		subject.kill()
	}
	return subject, source, media, err
}

func (r *runner) startRelay(ctx context.Context, busyPoll time.Duration) (*process, relayReady, error) {
	p, err := r.role(ctx, 1, relayCPU, "role-relay", relayArgs{Dir: r.dir, Keys: []lease.Key{r.key}, BusyPoll: busyPoll})
	if err != nil {
		return nil, relayReady{}, err
	}
	var ready relayReady
	return p, ready, p.read(&ready)
}

func (r *runner) startCoturn(ctx context.Context) (*process, error) {
	return r.start(ctx, 1, relayCPU, "turnserver", "-n", "--no-auth", "--no-tls", "--no-dtls", "--no-cli", "--no-stdout-log",
		"--log-file", os.DevNull, "--pidfile", filepath.Join(r.dir, "turn.pid"), "--db", filepath.Join(r.dir, "turn.db"), "-m", "1", "-L", relayNear, "-E", relayFar,
		"-p", strconv.Itoa(turnPort), "--no-software-attribute")
}

// tokens signs a lease for each flow.
func (r *runner) tokens(n int) ([]string, error) {
	list := make([]string, n)
	for i := range list {
		var err error
		if list[i], err = r.sign(i); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// sign makes the lease of flow i.
func (r *runner) sign(i int) (string, error) {
	c := benchClaims(uint64(i + 1))
	c.ViewerAddress = sinkAddr(sinkPort, i).Addr()
	return r.signer.SignCircuit(c)
}

func signerFrom(seed []byte) (*lease.Signer, error) {
	return lease.NewSigner("bench", ed25519.NewKeyFromSeed(seed))
}

func benchClaims(circuit uint64) lease.CircuitClaims {
	now := time.Now()
	return lease.CircuitClaims{
		Lease: fmt.Sprintf("01JD7Q0W0000000000%08d", circuit), Host: "host-1",
		Relay: "bench", Circuit: circuit, Region: "lab", NotBefore: now, Expiry: now.Add(lease.Lifetime),
		ViewerAddress: netip.MustParseAddr(sinkIP), RateLimit: 400_000_000_000,
	}
}
