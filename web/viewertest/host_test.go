//go:build integration

package viewertest

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/ipv4"

	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/proof"
	"github.com/wavry/fleet/hostruntime/streamwire"
	"github.com/wavry/fleet/hostruntime/transport"
)

// Colours of the two films; Space or the left button switches from one to the other.
const (
	blue = 0xff1030d0
	red  = 0xffd03010
)

// host is a host whose every step the test decides.
type host struct {
	t         testing.TB
	key       ed25519.PrivateKey
	certs     *transport.Certificates
	direct    *gate
	relay     *gate
	films     [2]*clip
	fps       int
	lossy     func(sequence uint32) bool // true: the unit's bytes never leave
	swap      func(sequence uint32) bool // true: the unit leaves after the next one
	role      streamwire.Role
	version   uint16
	noPicture atomic.Bool

	mu       sync.Mutex // guards the following
	pageKey  string     // thumbprint that the last wish named
	conns    []*viewer
	hellos   []streamwire.Hello
	messages []streamwire.Message
	moves    []streamwire.MotionAbsolute
	turns    []streamwire.MotionRelative
	feedback []streamwire.Feedback
	feedAt   []time.Time
}

// viewer is one connection.
type viewer struct {
	conn      transport.Conn
	control   io.ReadWriteCloser
	writeMu   sync.Mutex
	relayed   bool
	restart   atomic.Bool // send a keyframe next
	film      atomic.Int32
	lastInput atomic.Uint32
	requests  atomic.Int32 // keyframe requests
}

// gate is a socket that can be frozen: packets vanish in both directions, as when a path dies silently.
type gate struct {
	*net.UDPConn
	batch  *ipv4.PacketConn
	frozen atomic.Bool
}

func (g *gate) ReadBatch(ms []ipv4.Message, flags int) (int, error) {
	for {
		n, err := g.batch.ReadBatch(ms, flags)
		if err != nil || !g.frozen.Load() {
			return n, err
		}
	}
}

func (g *gate) WriteTo(b []byte, a net.Addr) (int, error) {
	if g.frozen.Load() {
		return len(b), nil
	}
	return g.UDPConn.WriteTo(b, a)
}

func (g *gate) WriteMsgUDP(b, oob []byte, to *net.UDPAddr) (n, oobn int, err error) {
	if g.frozen.Load() {
		return len(b), len(oob), nil
	}
	return g.UDPConn.WriteMsgUDP(b, oob, to)
}

func newGate(t testing.TB) *gate {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	return &gate{UDPConn: c, batch: ipv4.NewPacketConn(c)}
}

// newHost starts a host that runs until the test ends.
func newHost(t testing.TB, width, height int) *host {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	certs, err := transport.NewCertificates(time.Now)
	if err != nil {
		t.Fatal(err)
	}
	h := &host{
		t: t, key: key, certs: certs, fps: 60, role: streamwire.RoleControl, version: streamwire.Version,
		direct: newGate(t), relay: newGate(t), films: [2]*clip{film(t, blue, width, height), film(t, red, width, height)},
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, g := range []*gate{h.direct, h.relay} {
		server := h.newServer()
		server.Open(g)
		running.Go(func() {
			if err := server.Serve(ctx); err != nil {
				t.Errorf("serve: %v", err)
			}
			_ = server.Close() // the sockets are gone already
		})
	}
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return h
}

func (h *host) newServer() *transport.Server {
	h.t.Helper()
	server, err := transport.New(transport.Config{
		Certificates: h.certs,
		Admit: func(token string) (any, error) {
			if !strings.HasPrefix(token, "lease") {
				return nil, errors.New("the lease is not ours")
			}
			return token, nil
		},
		Handle: func(ctx context.Context, c transport.Conn, token any) {
			h.serve(ctx, c, token.(string))
		},
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return server
}

// grant names the direct and the relay candidate, in that order, as wanted.
func (h *host) grant(session string, direct, relay bool) signalapi.Grant {
	hashes, _, err := h.certs.Hashes()
	if err != nil {
		h.t.Error(err)
	}
	expiry := time.Now().Add(time.Hour).Truncate(time.Second).UTC()
	g := signalapi.Grant{
		Session: session, Viewer: "viewer-1", Role: "control",
		Host: signalapi.Host{ID: "host-1", Identity: h.key.Public().(ed25519.PublicKey)},
		Certificate: signalapi.Certificate{
			Hashes: hashes, Expiry: expiry, Signature: ed25519.Sign(h.key, signalapi.CertificateStatement(session, expiry, hashes)),
		},
		LeaseExpiry: time.Now().Add(5 * time.Minute), GraceSeconds: 6,
	}
	if direct {
		g.Candidates = append(g.Candidates, signalapi.Candidate{Kind: signalapi.CandidateDirect, Priority: 20, URL: h.url(h.direct, "lease-direct")})
	}
	if relay {
		g.Candidates = append(g.Candidates, signalapi.Candidate{Kind: signalapi.CandidateRelay, Priority: 10, URL: h.url(h.relay, "lease-relay"), Relay: "relay-7"})
	}
	return g
}

func (h *host) url(g *gate, token string) string {
	return "https://" + g.LocalAddr().String() + transport.PathSession + token
}

func (h *host) serve(ctx context.Context, c transport.Conn, token string) {
	control, err := c.Control(ctx)
	if err != nil {
		return // left before saying anything
	}
	v := &viewer{conn: c, control: control, relayed: strings.HasPrefix(token, "lease-relay")}
	messages := streamwire.NewMessageReader(control)
	hello := h.greet(v, messages, token)
	if hello == nil {
		return
	}
	h.mu.Lock()
	h.hellos = append(h.hellos, *hello)
	h.conns = append(h.conns, v)
	h.mu.Unlock()
	v.send(&streamwire.Welcome{
		Version: h.version, Role: h.role, Input: true, Resize: true, Codec: media.CodecH264,
		Width: uint16(h.films[0].width), Height: uint16(h.films[0].height), FPS: uint8(h.fps), Session: "session-1",
	})
	v.send(&streamwire.StateChange{State: streamwire.StateLive})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var parts sync.WaitGroup
	parts.Go(func() { h.readInput(ctx, v) })
	parts.Go(func() { h.readDatagrams(ctx, v) })
	parts.Go(func() { h.play(ctx, v) })
	h.readControl(v, messages)
	_ = c.Close(streamwire.CodeEnded, "")
	cancel()
	parts.Wait()
}

// greet challenges a page, and checks that it proves to hold the key that its last wish named. nil: it left before saying anything.
func (h *host) greet(v *viewer, messages *streamwire.MessageReader, token string) *streamwire.Hello {
	nonce, err := proof.NewNonce()
	if err != nil {
		h.t.Error(err)
		return nil
	}
	v.send(&streamwire.Challenge{Nonce: nonce[:]})
	first, err := messages.Next()
	if _, left := first.(*streamwire.Bye); err != nil || left {
		return nil // another path was faster
	}
	hello, ok := first.(*streamwire.Hello)
	if !ok {
		h.t.Errorf("first message is %T", first)
		return nil
	}
	second, err := messages.Next()
	p, ok := second.(*streamwire.Proof)
	if !ok {
		h.t.Errorf("second message is %T, %v", second, err)
		return nil
	}
	statement, err := proof.Statement(nonce, h.key.Public().(ed25519.PublicKey), token)
	if err != nil {
		h.t.Error(err)
		return nil
	}
	h.mu.Lock()
	pageKey := h.pageKey
	h.mu.Unlock()
	if err := proof.Verify(pageKey, statement, [proof.KeyLen]byte(p.Key), [proof.SignatureLen]byte(p.Signature)); err != nil {
		h.t.Errorf("the page's proof for %s: %v", token, err)
		return nil
	}
	return hello
}

func (v *viewer) send(m streamwire.Message) {
	v.raw(streamwire.AppendMessage(nil, m))
}

func (v *viewer) raw(b []byte) {
	v.writeMu.Lock()
	defer v.writeMu.Unlock()
	_, _ = v.control.Write(b) // the viewer may have left; the test sees that elsewhere
}

func (h *host) readControl(v *viewer, messages *streamwire.MessageReader) {
	for {
		m, err := messages.Next()
		if err != nil {
			return
		}
		if _, ok := m.(*streamwire.Keyframe); ok {
			v.requests.Add(1)
			v.restart.Store(true)
		}
		h.record(m)
		if _, ok := m.(*streamwire.Bye); ok {
			return
		}
	}
}

func (h *host) record(m streamwire.Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.messages = append(h.messages, m)
}

func (h *host) readInput(ctx context.Context, v *viewer) {
	stream, err := v.conn.Input(ctx)
	if err != nil {
		return
	}
	messages := streamwire.NewMessageReader(stream)
	for {
		m, err := messages.Next()
		if err != nil {
			return
		}
		h.record(m)
		in := m.(streamwire.Input)
		if presses(m) {
			v.film.Store(1 - v.film.Load())
			v.restart.Store(true)
		}
		v.lastInput.Store(in.InputID())
	}
}

// presses says whether m is what switches the colour.
func presses(m streamwire.Message) bool {
	switch m := m.(type) {
	case *streamwire.Key:
		return m.Down && m.Code == 57
	case *streamwire.Button:
		return m.Down && m.Code == 0x110
	}
	return false
}

func (h *host) readDatagrams(ctx context.Context, v *viewer) {
	for {
		b, err := v.conn.ReceiveDatagram(ctx)
		if err != nil {
			return
		}
		var d streamwire.Datagram
		if err := streamwire.ParseDatagram(&d, b); err != nil {
			h.t.Errorf("datagram %x: %v", b, err)
			continue
		}
		h.datagram(v, d)
	}
}

func (h *host) datagram(v *viewer, d streamwire.Datagram) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch d.Type {
	case streamwire.DatagramPing:
		pong := streamwire.Pong{ID: d.Ping.ID, ViewerTime: d.Ping.ViewerTime, HostTime: uint64(media.Now() / 1000)}
		_ = v.conn.SendDatagram(streamwire.AppendPong(nil, pong)) // a lost pong is a lost datagram
	case streamwire.DatagramMotionAbsolute:
		h.moves = append(h.moves, d.Absolute)
		v.lastInput.Store(d.Absolute.ID)
	case streamwire.DatagramMotionRelative:
		h.turns = append(h.turns, d.Relative)
		v.lastInput.Store(d.Relative.ID)
	case streamwire.DatagramFeedback:
		h.feedback = append(h.feedback, d.Feedback)
		h.feedAt = append(h.feedAt, time.Now())
	}
}

// play sends the film at its frame rate until ctx ends. Units leave in the order of their sequences unless the test swaps them.
func (h *host) play(ctx context.Context, v *viewer) {
	tick := time.NewTicker(time.Second / time.Duration(h.fps))
	defer tick.Stop()
	stats := time.NewTicker(500 * time.Millisecond)
	defer stats.Stop()
	var sequence uint32
	var at int
	var late func()
	for {
		select {
		case <-ctx.Done():
			return
		case <-stats.C:
			v.send(h.stats(v))
			continue
		case <-tick.C:
		}
		if h.noPicture.Load() {
			v.restart.Store(true)
			continue
		}
		input := v.lastInput.Load()
		film := h.films[v.film.Load()]
		if v.restart.Swap(false) || at >= len(film.units) {
			at = 0
		}
		send := h.unit(v, film, at, sequence, input)
		at++
		switch {
		case h.lossy != nil && h.lossy(sequence):
		case h.swap != nil && h.swap(sequence):
			late = send
		default:
			send()
			if late != nil {
				late()
				late = nil
			}
		}
		sequence++
	}
}

func (h *host) unit(v *viewer, film *clip, at int, sequence, input uint32) func() {
	u := film.units[at]
	captured := media.Now()
	return func() {
		_ = v.conn.SendUnit(streamwire.VideoHeader{ // a viewer that grants no stream misses a unit, which the test sees
			Codec: media.CodecH264, Keyframe: u.keyframe, Sequence: sequence, Width: uint16(film.width), Height: uint16(film.height),
			CaptureTime: uint64(captured / 1000), Handoff: 100, Encode: 200, Send: uint32(media.Now().Sub(captured).Microseconds()), LastInput: input,
		}, u.data, func(error) {})
	}
}

func (h *host) stats(v *viewer) *streamwire.Stats {
	s := v.conn.Stats()
	path := streamwire.PathDirect
	if v.relayed {
		path = streamwire.PathRelay
	}
	return &streamwire.Stats{
		RTT: uint32(s.RTT.Microseconds()), TargetKbps: 6000, FPS: uint8(h.fps), Window: uint32(s.Window), Path: path,
		Encoder: "software (x264)", Capture: "test film",
	}
}

// viewers returns the connections so far.
func (h *host) viewers() []*viewer {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]*viewer(nil), h.conns...)
}

// last is the newest connection.
func (h *host) last() *viewer {
	v := h.viewers()
	if len(v) == 0 {
		h.t.Fatal("no viewer has connected")
	}
	return v[len(v)-1]
}

// got returns the messages of one type so far.
func got[M streamwire.Message](h *host) []M {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []M
	for _, m := range h.messages {
		if m, ok := m.(M); ok {
			out = append(out, m)
		}
	}
	return out
}
