//go:build linux

package main

import (
	"bufio"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/wavry/fleet/master/lease"
	"github.com/wavry/fleet/relay"
	"github.com/wavry/fleet/relay/relayclient"
	"github.com/wavry/fleet/relay/relaywire"
)

const payload = 1200

func decode[T any](args []string) (v T, err error) {
	if len(args) != 1 {
		return v, fmt.Errorf("a role takes one argument")
	}
	return v, json.Unmarshal([]byte(args[0]), &v)
}

func say(v any) error { return json.NewEncoder(os.Stdout).Encode(v) }

// untilClosed ends when stdin does.
func untilClosed() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	go func() { defer cancel(); io.Copy(io.Discard, os.Stdin) }()
	return ctx
}

type relayArgs struct {
	Dir      string
	Keys     []lease.Key
	Loopback bool // advertise 127.0.0.1
	BusyPoll time.Duration
}

type relayReady struct {
	Control netip.AddrPort
	Key     relaywire.PublicKey
}

// roleRelay runs the relay with its defaults: every check, limit and counter is on. Only the caps on rates are raised.
func roleRelay(args []string) error {
	a, err := decode[relayArgs](args)
	if err != nil {
		return err
	}
	policy, err := json.Marshal(map[string]any{"keys": a.Keys})
	if err != nil {
		return err
	}
	file := policyFile(a.Dir)
	if err := os.WriteFile(file, policy, 0o600); err != nil {
		return err
	}
	cfg := relay.DefaultConfig()
	cfg.ID, cfg.Advertise, cfg.MaxRate, cfg.DrainTimeout = "bench", netip.MustParseAddr(relayNear), 400_000_000_000, 0
	cfg.BusyPoll = a.BusyPoll
	if a.Loopback {
		cfg.Advertise = netip.MustParseAddr("127.0.0.1")
	}
	cfg.Control = relay.FileControl{Path: file}
	if cfg.PrivateKey, err = ecdh.X25519().GenerateKey(rand.Reader); err != nil {
		return err
	}
	r, err := relay.New(cfg)
	if err != nil {
		return err
	}
	go func() {
		<-r.Started()
		say(relayReady{r.ControlAddr(), r.PublicKey()})
	}()
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			runtime.GC()
			runtime.GC() // the first one's sweep ends in the second
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			say(footprint{Heap: int64(m.HeapAlloc), Circuits: r.Circuits()})
		}
	}()
	return r.Run(ctx)
}

// sinkAddr is where the viewer of flow i is: viewers have addresses of their own, as in life.
func sinkAddr(port, i int) netip.AddrPort {
	ip := netip.MustParseAddr(sinkIP).As4()
	ip[3] += byte(i)
	return netip.AddrPortFrom(netip.AddrFrom4(ip), uint16(port+i))
}

// Kinds of ways a source sends.
const (
	viaRelay = "relay" // binds with relayclient
	viaTURN  = "turn"  // allocates at coturn and sends ChannelData
	viaPlain = "plain" // sends to an address
)

type sourceArgs struct {
	Via      string
	Flows    int
	Relay    relayReady
	Tokens   []string
	To       netip.AddrPort // TURN server, or where plain sends to
	SinkPort int            // first port of the sink (TURN peers)
}

// fromPort is the first port of a plain source, which the C forwarder's table goes by.
const fromPort = 20000

// order tells a source what to send.
type order struct {
	Burst  int // datagrams per segmented send; 1: singles, one flow after the other
	PPS    int // 0: as fast as possible
	Length time.Duration
	Stamp  bool // write the time into each datagram
}

type sent struct {
	Packets uint64
	Took    time.Duration
}

// flow is one socket of the source.
type flow struct {
	conn *net.UDPConn
	to   netip.AddrPort
	head []byte // before each payload: TURN's channel header
}

func roleSource(args []string) error {
	a, err := decode[sourceArgs](args)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var flows []*flow
	var media []netip.AddrPort
	for i := range a.Flows {
		f, err := openFlow(ctx, a, i)
		if err != nil {
			return fmt.Errorf("flow %d: %w", i, err)
		}
		flows = append(flows, f)
		media = append(media, f.to)
	}
	if err := say(media); err != nil {
		return err
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var o order
		if err := json.Unmarshal(in.Bytes(), &o); err != nil {
			return err
		}
		s, err := send(flows, o)
		if err != nil {
			return err
		}
		if err := say(s); err != nil {
			return err
		}
	}
	return nil
}

func openFlow(ctx context.Context, a sourceArgs, i int) (*flow, error) {
	local := &net.UDPAddr{IP: net.ParseIP(sourceIP)}
	if a.Via == viaPlain {
		local.Port = fromPort + i
	}
	conn, err := net.ListenUDP("udp4", local)
	if err != nil {
		return nil, err
	}
	conn.SetWriteBuffer(4 << 20)
	f := &flow{conn: conn, to: a.To}
	switch a.Via {
	case viaRelay:
		err = f.bind(ctx, a, i)
	case viaTURN:
		err = f.allocate(sinkAddr(a.SinkPort, i))
	}
	return f, err
}

// bind gets a circuit and keeps it until ctx ends.
func (f *flow) bind(ctx context.Context, a sourceArgs, i int) error {
	bound := make(chan relayclient.Event, 1)
	var client *relayclient.Client
	client, err := relayclient.New(relayclient.Config{
		Relay: a.Relay.Control, PublicKey: a.Relay.Key, Token: a.Tokens[i],
		Offer: func(candidate uint32, _ []byte) { client.Confirm(candidate) },
		Send:  func(b []byte, to netip.AddrPort) error { _, err := f.conn.WriteToUDPAddrPort(b, to); return err },
		Notify: func(e relayclient.Event) {
			if e.Kind == relayclient.Bound {
				bound <- e
			}
		},
	})
	if err != nil {
		return err
	}
	go func() {
		for b := make([]byte, 2048); ; {
			n, from, err := f.conn.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			client.HandlePacket(from, b[:n], time.Now())
		}
	}()
	ended := make(chan error, 1)
	go func() { ended <- client.Run(ctx) }()
	select {
	case e := <-bound:
		f.to = e.Media
		return nil
	case err := <-ended:
		return err
	}
}

// send obeys an order.
func send(flows []*flow, o order) (sent, error) {
	if o.Burst == 1 && o.PPS == 0 {
		return blast(flows, o.Length)
	}
	senders := make([]*sender, len(flows))
	for i, f := range flows {
		s, err := newSender(f, o.Burst)
		if err != nil {
			return sent{}, err
		}
		senders[i] = s
	}
	var count uint64
	began := time.Now()
	for n := 0; time.Since(began) < o.Length; n++ {
		if o.PPS > 0 {
			due := began.Add(time.Duration(float64(count) / float64(o.PPS) * 1e9))
			wait(due, o.Stamp)
		}
		s := senders[n%len(senders)]
		if o.Stamp {
			s.stamp()
		}
		if s.once() {
			count += uint64(o.Burst)
		}
	}
	return sent{count, time.Since(began)}, nil
}

// wait spins for rates, and sleeps for latencies, where the sink shares our CPU.
func wait(due time.Time, sleep bool) {
	for d := time.Until(due); d > 0; d = time.Until(due) {
		if sleep {
			time.Sleep(d)
		}
	}
}

// sender sends one prepared message again and again.
type sender struct {
	fd      int
	message []byte
	at      int // of the payload
	control []byte
	to      unix.RawSockaddrInet4
	vec     unix.Iovec
	header  unix.Msghdr
}

func newSender(f *flow, burst int) (*sender, error) {
	raw, err := f.conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &sender{at: len(f.head)}
	if err := raw.Control(func(fd uintptr) { s.fd = int(fd) }); err != nil {
		return nil, err
	}
	for range burst {
		s.message = append(s.message, f.head...)
		s.message = append(s.message, 0x41) // as a short header of QUIC
		s.message = append(s.message, make([]byte, payload-1)...)
	}
	if burst > 1 {
		s.control = make([]byte, unix.CmsgSpace(2))
		binary.NativeEndian.PutUint64(s.control, uint64(unix.CmsgLen(2)))
		binary.NativeEndian.PutUint32(s.control[8:], unix.SOL_UDP)
		binary.NativeEndian.PutUint32(s.control[12:], 103) // UDP_SEGMENT
		binary.NativeEndian.PutUint16(s.control[16:], uint16(payload+len(f.head)))
	}
	s.prepare(f.to)
	return s, nil
}

func (s *sender) stamp() {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	binary.BigEndian.PutUint64(s.message[s.at+8:], uint64(ts.Nano()))
}

func (s *sender) once() bool {
	_, _, errno := syscall.RawSyscall(unix.SYS_SENDMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&s.header)), 0)
	return errno == 0
}

// prepare points the message header at everything once.
func (s *sender) prepare(to netip.AddrPort) {
	s.to.Family = unix.AF_INET
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&s.to.Port))[:], to.Port())
	s.to.Addr = to.Addr().As4()
	s.vec.Base = &s.message[0]
	s.vec.SetLen(len(s.message))
	s.header = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&s.to)), Namelen: unix.SizeofSockaddrInet4, Iov: &s.vec, Iovlen: 1}
	if s.control != nil {
		s.header.Control = &s.control[0]
		s.header.SetControllen(len(s.control))
	}
}

type sinkArgs struct {
	Flows int
	Port  int
	Hello []netip.AddrPort // send a QUIC Initial to each of these, to pin the viewer leg
	Stamp bool             // measure latencies instead of discarding in the kernel
}

type latencies struct {
	N             int
	P50, P95, P99 time.Duration
}

// roleSink opens the viewers' sockets. Unless it measures latency, a socket filter discards everything in the kernel, so that the
// sink costs next to nothing; the packets are counted at its interface.
func roleSink(args []string) error {
	a, err := decode[sinkArgs](args)
	if err != nil {
		return err
	}
	var conns []*net.UDPConn
	for i := range a.Flows {
		conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(sinkAddr(a.Port, i)))
		if err != nil {
			return err
		}
		conns = append(conns, conn)
		if len(a.Hello) > 0 {
			hello := make([]byte, payload)
			rand.Read(hello)
			copy(hello, []byte{0xc0, 0, 0, 0, 1, 8})
			to := netip.AddrPortFrom(netip.MustParseAddr(relayFar), a.Hello[i].Port())
			if _, err := conn.WriteToUDPAddrPort(hello, to); err != nil {
				return err
			}
		}
		if !a.Stamp {
			if err := discard(conn); err != nil {
				return err
			}
		}
	}
	if err := say("ready"); err != nil {
		return err
	}
	if a.Stamp {
		return measureLatency(conns[0])
	}
	<-untilClosed().Done()
	return nil
}

// discard attaches the BPF program "return 0".
func discard(conn *net.UDPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	program := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}}
	var got error
	err = raw.Control(func(fd uintptr) {
		got = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &program[0]})
	})
	if err != nil {
		return err
	}
	return got
}

func measureLatency(conn *net.UDPConn) error {
	ctx := untilClosed()
	context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
	var all []time.Duration
	for b := make([]byte, 2048); ; {
		n, err := conn.Read(b)
		if err != nil {
			break
		}
		var ts unix.Timespec
		unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
		if n >= 16 {
			all = append(all, time.Duration(ts.Nano()-int64(binary.BigEndian.Uint64(b[8:]))))
		}
	}
	slices.Sort(all)
	if len(all) == 0 {
		return say(latencies{})
	}
	return say(latencies{len(all), all[len(all)/2], all[len(all)*95/100], all[len(all)*99/100]})
}

type floodArgs struct {
	To     netip.AddrPort
	PPS    int
	Length time.Duration
	Good   bool // begins like a control packet; else it is refused by its first bytes
}

// roleFlood sends BIND-sized packets that no host has made.
func roleFlood(args []string) error {
	a, err := decode[floodArgs](args)
	if err != nil {
		return err
	}
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(sourceIP)})
	if err != nil {
		return err
	}
	conn.SetWriteBuffer(4 << 20)
	s, err := newSender(&flow{conn: conn, to: a.To}, 1)
	if err != nil {
		return err
	}
	s.message = floodPacket(a.Good)
	s.prepare(a.To)
	began, count := time.Now(), uint64(0)
	for time.Since(began) < a.Length {
		wait(began.Add(time.Duration(float64(count)/float64(a.PPS)*1e9)), false)
		if s.once() {
			count++
		}
	}
	return say(sent{count, time.Since(began)})
}

// floodPacket is a BIND of ordinary length whose MAC1 is wrong, or noise of the same length.
func floodPacket(bind bool) []byte {
	b := make([]byte, 700)
	rand.Read(b)
	if bind {
		copy(b, []byte{5, 'W', 'R', 'L', relaywire.Version, byte(relaywire.TypeBind)})
		binary.BigEndian.PutUint16(b[6:], uint16(len(b)-relaywire.BindHeadLen))
	}
	return b
}
