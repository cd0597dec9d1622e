//go:build integration

// Package relay_test proves the relay with what it carries in earnest: QUIC sessions, and with a real Consul.
package relay_test

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"go.uber.org/goleak"
	"golang.org/x/net/ipv4"

	"github.com/wavry/fleet/hostruntime/relaypath"
	"github.com/wavry/fleet/master/lease"
	"github.com/wavry/fleet/relay"
	"github.com/wavry/fleet/relay/relayclient"
	"github.com/wavry/fleet/relay/relaywire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// site is a relay's machine: key, policy file, hand-over socket, and the ports it had first.
type site struct {
	dir     string
	key     *ecdh.PrivateKey
	signers map[string]*lease.Signer
	keys    []lease.Key
	change  func(*relay.Config)
}

func newSite(t testing.TB) *site {
	t.Helper()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{dir: t.TempDir(), key: key, signers: map[string]*lease.Signer{}}
	s.addKey(t, "k1")
	return s
}

func (s *site) addKey(t testing.TB, kid string) {
	t.Helper()
	public, private, _ := ed25519.GenerateKey(rand.Reader)
	signer, err := lease.NewSigner(kid, private)
	if err != nil {
		t.Fatal(err)
	}
	s.signers[kid] = signer
	s.keys = append(s.keys, lease.Key{ID: kid, Public: public})
	s.publish(t)
}

// publish writes the policy file.
func (s *site) publish(t testing.TB) {
	t.Helper()
	b, err := json.Marshal(map[string]any{"keys": s.keys})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.dir, "policy.json")
	if err := errors.Join(os.WriteFile(path+".new", b, 0o600), os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
}

func (s *site) token(t testing.TB, kid string, circuit uint64) string {
	t.Helper()
	now := time.Now()
	token, err := s.signers[kid].SignCircuit(lease.CircuitClaims{
		Lease: fmt.Sprintf("lease-%d", circuit), Host: "h", Relay: "r1", Circuit: circuit, NotBefore: now, Expiry: now.Add(lease.Lifetime),
		ViewerAddress: netip.MustParseAddr("127.0.0.1"),
	})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

type running struct {
	*relay.Relay
	stop   context.CancelFunc
	result chan error
	url    string
}

func (s *site) start(t testing.TB) *running {
	t.Helper()
	cfg := relay.DefaultConfig()
	cfg.ID, cfg.PrivateKey, cfg.Bind, cfg.ControlPort, cfg.FirstMediaPort, cfg.MediaPorts = "r1", s.key, netip.MustParseAddr("127.0.0.1"), 0, 0, 4
	cfg.HTTPAddr, cfg.DrainTimeout = freeTCP(t), time.Second
	cfg.Control = relay.FileControl{Path: filepath.Join(s.dir, "policy.json"), Every: 10 * time.Millisecond}
	cfg.HandoverPath = filepath.Join(s.dir, "handover.sock")
	if s.change != nil {
		s.change(&cfg)
	}
	r, err := relay.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	u := &running{Relay: r, stop: stop, result: make(chan error, 1), url: "http://" + cfg.HTTPAddr}
	go func() { u.result <- r.Run(ctx) }()
	t.Cleanup(func() { u.end(t) })
	select {
	case <-r.Started():
	case err := <-u.result:
		t.Fatalf("relay: %v", err)
	}
	eventually(t, "relay ready", func() bool { return u.get("/ready") == http.StatusOK })
	return u
}

// end stops the relay once and returns what Run returned.
func (u *running) end(t testing.TB) error {
	u.stop()
	select {
	case err := <-u.result:
		u.result <- err
		return err
	case <-time.After(patience):
		t.Error("relay does not end")
		return nil
	}
}

var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 2 * time.Second}

func (u *running) get(path string) int {
	answer, err := client.Get(u.url + path)
	if err != nil {
		return 0
	}
	answer.Body.Close()
	return answer.StatusCode
}

func freeTCP(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("still not: %s", what)
		}
	}
}

// circuitIDs makes connection ids that lead the relay to a circuit.
type circuitIDs struct {
	ids     relaywire.IDs
	circuit uint64
}

func (g circuitIDs) GenerateConnectionID() (quic.ConnectionID, error) {
	return quic.ConnectionIDFromBytes(g.ids.Append(nil, g.circuit, mathrand.Uint64())), nil
}

func (circuitIDs) ConnectionIDLen() int { return relaywire.IDLen }

// host echoes every stream and datagram; its QUIC and its relay leg share one socket.
type host struct {
	socket  *natConn
	relay   *relayclient.Client
	events  chan relayclient.Event
	media   netip.AddrPort
	circuit *relaypath.Circuit
	offers  atomic.Int64
}

const alpn = "relay-test"

func startHost(t testing.TB, u *running, token string) *host {
	t.Helper()
	h := &host{socket: newNAT(t), events: make(chan relayclient.Event, 64)}
	socket := relaypath.NewSocket(h.socket)
	var circuit atomic.Pointer[relaypath.Circuit]
	var err error
	h.relay, err = relayclient.New(relayclient.Config{
		Relay: u.ControlAddr(), PublicKey: u.PublicKey(), Token: token,
		Notify: func(e relayclient.Event) {
			if c := circuit.Load(); c != nil && e.Kind == relayclient.Bound {
				c.Bound(e.Viewer)
			}
			h.events <- e
		},
		Offer: func(candidate uint32, datagram []byte) {
			h.offers.Add(1)
			if c := circuit.Load(); c != nil {
				c.Offered(candidate, datagram)
			}
		},
		Send: func(b []byte, to netip.AddrPort) error { _, err := socket.WriteTo(b, udpAddr(to)); return err },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{}, 3)
	go func() { h.control(ctx, socket); done <- struct{}{} }()
	go func() { h.relay.Run(ctx); done <- struct{}{} }()
	t.Cleanup(func() {
		stop()
		socket.Close()
		<-done
		<-done
	})
	bound := h.await(t, relayclient.Bound)
	h.media = bound.Media
	h.circuit = relaypath.NewCircuit(socket, bound.Media, h.relay)
	transport := &quic.Transport{Conn: h.circuit, ConnectionIDGenerator: circuitIDs{relaywire.NewIDs(bound.IDs), bound.Circuit}}
	listener, err := transport.Listen(serverTLS(t), &quic.Config{EnableDatagrams: true, MaxIdleTimeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	circuit.Store(h.circuit)
	go func() { h.accept(ctx, listener); done <- struct{}{} }()
	t.Cleanup(func() {
		transport.Close()
		h.circuit.Close()
		<-done
	})
	return h
}

// control gives what is not QUIC to the relay client, and nothing to direct viewers, for there are none.
func (h *host) control(ctx context.Context, socket *relaypath.Socket) {
	ms := []ipv4.Message{{Buffers: [][]byte{make([]byte, 2048)}, OOB: make([]byte, 128)}}
	for ctx.Err() == nil {
		n, err := socket.ReadBatch(ms, 0)
		if err != nil {
			return
		}
		if b := ms[0].Buffers[0][:ms[0].N]; n == 1 && relaywire.IsControl(b) {
			h.relay.HandlePacket(addrPort(ms[0].Addr), b, time.Now())
		}
	}
}

func (h *host) await(t testing.TB, kind relayclient.EventKind) relayclient.Event {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case e := <-h.events:
			if e.Kind == kind {
				return e
			}
		case <-deadline:
			t.Fatalf("no %v", kind)
		}
	}
}

// accept believes every viewer that has shaken hands.
func (h *host) accept(ctx context.Context, listener *quic.Listener) {
	defer listener.Close()
	for {
		conn, err := listener.Accept(ctx)
		if err != nil {
			return
		}
		h.circuit.Prove(conn, conn.RemoteAddr())
		go func() {
			for {
				stream, err := conn.AcceptStream(ctx)
				if err != nil {
					conn.CloseWithError(0, "")
					return
				}
				go func() {
					io.Copy(stream, stream)
					stream.Close()
				}()
			}
		}()
	}
}

func serverTLS(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: []string{alpn}}
}

// viewer is a QUIC client behind a NAT.
type viewer struct {
	socket *natConn
	conn   *quic.Conn
}

func dial(t testing.TB, to netip.AddrPort) *viewer {
	t.Helper()
	v := &viewer{socket: newNAT(t)}
	transport := &quic.Transport{Conn: v.socket}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var err error
	v.conn, err = transport.Dial(ctx, udpAddr(to), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{alpn}},
		&quic.Config{EnableDatagrams: true, MaxIdleTimeout: 30 * time.Second, KeepAlivePeriod: 50 * time.Millisecond})
	if err != nil {
		t.Fatalf("dial through the relay: %v", err)
	}
	t.Cleanup(func() {
		v.conn.CloseWithError(0, "")
		transport.Close()
	})
	return v
}

// echo sends n bytes and expects them back.
func (v *viewer) echo(n int) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stream, err := v.conn.OpenStreamSync(ctx)
	if err != nil {
		return err
	}
	stream.SetDeadline(time.Now().Add(patience))
	want := make([]byte, n)
	rand.Read(want)
	sent := make(chan error, 1)
	go func() {
		_, err := stream.Write(want)
		sent <- errors.Join(err, stream.Close())
	}()
	got, err := io.ReadAll(stream)
	if err := errors.Join(err, <-sent); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errors.New("came back changed")
	}
	return nil
}

func (v *viewer) mustEcho(t testing.TB, when string, n int) {
	t.Helper()
	began := time.Now()
	if err := v.echo(n); err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	t.Logf("%s: %d kB there and back in %v", when, n>>10, time.Since(began).Round(time.Millisecond))
}

// TestQUIC proves that a real QUIC session passes, on both data paths.
func TestQUIC(t *testing.T) {
	for _, path := range []string{relay.PathAuto, relay.PathPortable} {
		t.Run(path, func(t *testing.T) {
			s := newSite(t)
			s.change = func(c *relay.Config) {
				c.DataPath = path
				if path == relay.PathPortable {
					c.HandoverPath = ""
				}
			}
			u := s.start(t)
			h := startHost(t, u, s.token(t, "k1", 77))
			dial(t, h.media).mustEcho(t, "through "+path, 4<<20)
		})
	}
}

// TestRebinding proves that the session survives a NAT that rebinds: the viewer's, then the host's, then both again.
func TestRebinding(t *testing.T) {
	s := newSite(t)
	u := s.start(t)
	h := startHost(t, u, s.token(t, "k1", 77))
	v := dial(t, h.media)
	v.mustEcho(t, "before", 1<<20)
	for range 2 {
		if err := v.socket.rebind(); err != nil {
			t.Fatal(err)
		}
		v.mustEcho(t, "viewer rebound", 1<<20)
		if err := h.socket.rebind(); err != nil {
			t.Fatal(err)
		}
		v.mustEcho(t, "host rebound", 1<<20)
	}
}

// TestRestart proves that a relay can be replaced by a successor in the middle of a transfer.
func TestRestart(t *testing.T) {
	s := newSite(t)
	old := s.start(t)
	h := startHost(t, old, s.token(t, "k1", 77))
	v := dial(t, h.media)
	v.mustEcho(t, "before", 1<<20)
	moving := make(chan error, 1)
	go func() { moving <- v.echo(16 << 20) }()
	next := s.start(t)
	if err := old.end(t); !errors.Is(err, relay.ErrHandedOver) {
		t.Fatalf("predecessor: %v", err)
	}
	if err := <-moving; err != nil {
		t.Fatalf("transfer across the hand-over: %v", err)
	}
	v.mustEcho(t, "after the hand-over", 1<<20)
	if n := next.Circuits(); n != 1 {
		t.Errorf("%d circuits", n)
	}
}

// TestKeyRotation proves that sessions live through rotation and revocation of the key that signed their lease, and that new ones
// are admitted with the new key and cleanly refused with the revoked one.
func TestKeyRotation(t *testing.T) {
	s := newSite(t)
	u := s.start(t)
	h := startHost(t, u, s.token(t, "k1", 77))
	v := dial(t, h.media)
	s.addKey(t, "k2")
	eventually(t, "both keys known", func() bool { return keysOf(u) == 2 })
	if err := h.relay.UpdateToken(s.token(t, "k2", 77)); err != nil {
		t.Fatal(err)
	}
	h.await(t, relayclient.Renewed)
	s.keys = s.keys[1:]
	s.publish(t)
	eventually(t, "old key gone", func() bool { return keysOf(u) == 1 })
	v.mustEcho(t, "after the revocation", 1<<20)
	if err := h.relay.UpdateToken(s.token(t, "k1", 77)); err != nil {
		t.Fatal(err)
	}
	if e := h.await(t, relayclient.Rejected); e.Reject.Reason != relaywire.UnknownKey {
		t.Errorf("revoked key: %v", e.Reject)
	}
	v.mustEcho(t, "after the refusal", 1<<20)
}

func keysOf(u *running) int {
	answer, err := client.Get(u.url + "/ready")
	if err != nil {
		return -1
	}
	defer answer.Body.Close()
	var body struct{ Keys []string }
	if json.NewDecoder(answer.Body).Decode(&body) != nil {
		return -1
	}
	return len(body.Keys)
}

// TestGarbageKeepsNobodyOut proves that 210 garbage packets a second from the viewer's address, begun before it connects, keep no viewer out.
func TestGarbageKeepsNobodyOut(t *testing.T) {
	s := newSite(t)
	u := s.start(t)
	for n := range 3 {
		h := startHost(t, u, s.token(t, "k1", uint64(77+n)))
		stop := flood(t, h.media, 210)
		dial(t, h.media).mustEcho(t, "under the flood", 256<<10)
		stop()
	}
}

// flood sends garbage that looks like first packets, each from a fresh port of the viewer's address.
func flood(t testing.TB, to netip.AddrPort, perSecond int) (stop func()) {
	t.Helper()
	done, first, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		for n := 0; ; n++ {
			conn, err := net.DialUDP("udp4", nil, udpAddr(to))
			if err != nil {
				continue
			}
			b := make([]byte, 1200)
			rand.Read(b)
			copy(b, []byte{0xc3, 0, 0, 0, 1, 8})
			conn.Write(b)
			conn.Close()
			if n == perSecond/4 {
				close(first)
			}
			select {
			case <-tick.C:
			case <-done:
				return
			}
		}
	}()
	<-first
	return func() { close(done); <-ended }
}

// TestThiefAtPauses proves on real QUIC that a thief who copies each of the viewer's packets and brings it first, from another address, gets
// nothing of the stream when the viewer pauses, and that the viewer goes on.
func TestThiefAtPauses(t *testing.T) {
	t.Setenv("QUIC_GO_DISABLE_GSO", "true") // one datagram per send, so that the thief copies what the viewer sends
	s := newSite(t)
	u := s.start(t)
	h := startHost(t, u, s.token(t, "k1", 77))
	v := dial(t, h.media)
	v.mustEcho(t, "before", 256<<10)
	thief, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 66)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { thief.Close() })
	shook := h.offers.Load()
	var got, bytesIn, bytesOut atomic.Int64
	go func() { // ends with the socket
		for b := make([]byte, 2048); ; {
			n, err := thief.Read(b)
			if err != nil {
				return
			}
			got.Add(1)
			bytesIn.Add(int64(n))
		}
	}()
	v.socket.tap.Store(&tap{func(b []byte) {
		bytesOut.Add(int64(len(b)))
		thief.WriteToUDPAddrPort(b, h.media)
	}})
	random := mathrand.New(mathrand.NewPCG(1, 2))
	for n := range 4 {
		v.socket.mute(true)
		pause := time.NewTimer(150*time.Millisecond + time.Duration(random.Int64N(int64(600*time.Millisecond))))
		<-pause.C
		v.socket.mute(false)
		v.mustEcho(t, fmt.Sprintf("after pause %d", n), 128<<10)
	}
	// It got questions about its path, of 1200 bytes, and at most two a second of them; the stream was half a megabyte.
	copies := h.offers.Load() - shook
	t.Logf("the thief sent %d bytes, %d packets of it reached the host, and got %d packets, %d bytes", bytesOut.Load(), copies, got.Load(), bytesIn.Load())
	if copies < 50 {
		t.Error("the thief was not heard")
	}
	if got.Load() > 30 || bytesIn.Load() > 1252*got.Load() {
		t.Errorf("the thief got %d packets, %d bytes", got.Load(), bytesIn.Load())
	}
}
