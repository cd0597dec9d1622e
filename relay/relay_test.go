package relay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/wavry/fleet/master/lease"
	"github.com/wavry/fleet/relay/relayclient"
	"github.com/wavry/fleet/relay/relaywire"
)

// pair is a circuit with both ends.
type pair struct {
	host   *hostEnd
	viewer *netConn
	media  netip.AddrPort
}

// connect binds a circuit and pins its viewer.
func connect(t testing.TB, u *running, i *issuer, circuit uint64) *pair {
	t.Helper()
	h := newHost(t, u, i.sign(t, testClaims(circuit)), nil)
	media := h.await(t, relayclient.Bound).Media
	v := &netConn{listenUDP(t)}
	first := initial(1200)
	write(t, v.UDPConn, first, media)
	if d := h.receive(t); !bytes.Equal(d.b, first) || d.from != media {
		t.Fatalf("host got %d bytes from %v", len(d.b), d.from)
	}
	return &pair{h, v, media}
}

// TestCircuit proves the whole life of a circuit on both data paths: bind, pin, data both ways, renewal, release.
func TestCircuit(t *testing.T) {
	paths(t, func(t *testing.T, path string) {
		i := newIssuer(t, "k1")
		u := startTrusting(t, i, func(c *Config) { c.DataPath = path })
		h := newHost(t, u, i.sign(t, testClaims(77)), nil)
		bound := h.await(t, relayclient.Bound)
		if want := h.conn.LocalAddr().String(); bound.Observed.String() != want {
			t.Errorf("observed %v, is %v", bound.Observed, want)
		}
		if e := <-u.control.circuits; e.Lease != "lease-77" || e.Ended {
			t.Errorf("told %+v", e)
		}
		viewer := listenUDP(t)
		first := initial(1200)
		write(t, viewer, first, bound.Media)
		if d := h.receive(t); !bytes.Equal(d.b, first) || d.from != bound.Media {
			t.Errorf("host got %d bytes from %v", len(d.b), d.from)
		}
		if err := h.send([]byte("\x41hello"), bound.Media); err != nil {
			t.Fatal(err)
		}
		if d := read(t, viewer); string(d.b) != "\x41hello" || d.from != bound.Media {
			t.Errorf("viewer got %q from %v", d.b, d.from)
		}
		later := testClaims(77)
		later.Expiry = later.Expiry.Add(time.Hour)
		if err := h.client.UpdateToken(i.sign(t, later)); err != nil {
			t.Fatal(err)
		}
		if e := h.await(t, relayclient.Renewed); e.Expiry.Sub(bound.Expiry) < 50*time.Minute {
			t.Errorf("renewed until %v, was %v", e.Expiry, bound.Expiry)
		}
		h.client.Release()
		if err := <-h.result; !errors.Is(err, relayclient.ErrReleased) {
			t.Errorf("Run: %v", err)
		}
		h.result <- nil
		if e := <-u.control.circuits; !e.Ended || !e.Succeeded || e.Bytes != 6 || e.Packets != 1 || e.Cause != "released" {
			t.Errorf("told %+v", e)
		}
		eventually(t, "circuit gone", func() bool { return u.Circuits() == 0 })
	})
}

// TestBursts proves that segmented bursts of many sizes arrive whole, unmerged and in order, with a keepalive in their midst.
func TestBursts(t *testing.T) {
	paths(t, func(t *testing.T, path string) {
		i := newIssuer(t, "k1")
		u := startTrusting(t, i, func(c *Config) { c.DataPath = path })
		p := connect(t, u, i, 5)
		var want [][]byte
		random := rand.New(rand.NewPCG(1, 2))
		for n := range 300 {
			b := bytes.Repeat([]byte{0x41, byte(n), byte(n >> 8)}, 100+100*random.IntN(4))
			want = append(want, b)
			if err := p.host.send(b, p.media); err != nil {
				t.Fatal(err)
			}
			if n%10 == 9 { // the kernel's buffers are the test's limit, not the relay's
				for _, w := range want {
					if d := read(t, p.viewer.UDPConn); !bytes.Equal(d.b, w) {
						t.Fatalf("got %d bytes %x.., want %d bytes %x..", len(d.b), d.b[:3], len(w), w[:3])
					}
				}
				want = want[:0]
			}
		}
	})
}

// TestHostMoves proves that a host whose NAT rebinds is found again by its next keepalive, without a new BIND.
func TestHostMoves(t *testing.T) {
	i := newIssuer(t, "k1")
	u := startTrusting(t, i, nil)
	p := connect(t, u, i, 5)
	p.host.move(t)
	eventually(t, "host leg followed", func() bool { return u.engine.counts.hostsFollowed.Load() == 1 })
	write(t, p.viewer.UDPConn, []byte("\x41x"), p.media)
	if d := p.host.receive(t); string(d.b) != "\x41x" {
		t.Errorf("host got %q", d.b)
	}
	if n := u.engine.counts.bound.Load(); n != 1 {
		t.Errorf("%d circuits were bound", n)
	}
}

// TestViewerMoves proves that a viewer whose NAT rebinds is found by the connection id it shows.
func TestViewerMoves(t *testing.T) {
	i := newIssuer(t, "k1")
	u := startTrusting(t, i, nil)
	p := connect(t, u, i, 0x1122334455667788)
	moved := listenUDP(t)
	packet := u.engine.short(0x1122334455667788, 60)
	eventually(t, "viewer leg followed", func() bool {
		write(t, moved, packet, p.media)
		return u.engine.counts.viewersFollowed.Load() == 1
	})
	if d := p.host.receive(t); !bytes.Equal(d.b, packet) {
		t.Errorf("host got %x", d.b)
	}
	if err := p.host.send([]byte("\x41back"), p.media); err != nil {
		t.Fatal(err)
	}
	if d := read(t, moved); string(d.b) != "\x41back" {
		t.Errorf("viewer got %q", d.b)
	}
}

// TestGarbage throws noise, truncated, bit-flipped and replayed control packets at all ports, and proves that nothing crashes, that
// no more bytes come back than went in, that everything is counted, and that the circuit beside it does not notice.
func TestGarbage(t *testing.T) {
	paths(t, func(t *testing.T, path string) {
		i := newIssuer(t, "k1")
		u := startTrusting(t, i, func(c *Config) { c.DataPath = path })
		p := connect(t, u, i, 5)
		p.host.deaf.Store(true)
		d := newDesk(t, i)
		d.verifier = u.verifier
		valid := [][]byte{
			d.request(i.sign(t, d.claims(9)), false, time.Now(), nil), d.request(i.sign(t, d.claims(9)), true, time.Now(), &[16]byte{1}),
			relaywire.AppendSignal(nil, &relaywire.Signal{Type: relaywire.TypeKeepalive, Circuit: 5, Counter: 1 << 40}, &relaywire.Key{}),
			relaywire.AppendSignal(nil, &relaywire.Signal{Type: relaywire.TypeRelease, Circuit: 5, Counter: 1 << 41}, &relaywire.Key{}),
			relaywire.AppendBound(nil, &relaywire.Bound{}, &relaywire.Key{}), relaywire.AppendUnknown(nil, 5, 1), initial(1200), u.engine.short(6, 60),
		}
		attacker := listenUDP(t)
		random := rand.New(rand.NewPCG(3, 4))
		ports := append([]uint16{u.ControlAddr().Port()}, u.MediaPorts()...)
		before := u.totals()
		sent, bytesSent := 0, 0
		for range 4000 {
			b := bytes.Clone(valid[random.IntN(len(valid))])
			switch random.IntN(3) {
			case 0:
				b = b[:random.IntN(len(b)+1)]
			case 1:
				b[random.IntN(len(b))] ^= byte(1 << random.IntN(8))
			}
			write(t, attacker, b, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), ports[random.IntN(len(ports))]))
			sent, bytesSent = sent+1, bytesSent+len(b)
			if sent%50 == 0 {
				eventually(t, "all received", func() bool { return u.totals().packetsIn-before.packetsIn >= uint64(sent) })
			}
		}
		eventually(t, "verifiers idle", func() bool { return len(u.engine.admission.free) == verifyQueue })
		after := u.totals()
		back := after.bytesOut - before.bytesOut
		if back > uint64(bytesSent) {
			t.Errorf("amplification: %d bytes for %d", back, bytesSent)
		}
		dropped := uint64(0)
		for i := range after.drops {
			dropped += after.drops[i] - before.drops[i]
		}
		if dropped < uint64(sent)/2 {
			t.Errorf("%d of %d counted as dropped", dropped, sent)
		}
		if err := p.host.send([]byte("\x41still"), p.media); err != nil {
			t.Fatal(err)
		}
		if d := read(t, p.viewer.UDPConn); string(d.b) != "\x41still" {
			t.Errorf("viewer got %q", d.b)
		}
	})
}

// TestAmplification proves packet by packet that whatever a stranger sends, the answer is not longer.
func TestAmplification(t *testing.T) {
	i := newIssuer(t, "k1")
	d := newDesk(t, i)
	e := &engine{core: d.core, admission: d.admission}
	var s workerStats
	key := makeKey(d.from, 0)
	control := key
	control.ports |= controlIndex
	for n := range relaywire.MaxBindLen {
		p := make([]byte, n)
		copy(p, relaywire.AppendSignal(nil, &relaywire.Signal{Type: relaywire.TypeKeepalive, Circuit: 4}, &relaywire.Key{}))
		for _, k := range []legKey{key, control} {
			if answer, _ := e.control(k, p, d.now, nil, &s); len(answer) > len(p) {
				t.Errorf("%d bytes for %d", len(answer), len(p))
			}
		}
	}
}

// TestDrain proves that a drain refuses new circuits, tells the hosts, keeps running circuits, and turns /ready.
func TestDrain(t *testing.T) {
	i := newIssuer(t, "k1")
	u := startTrusting(t, i, nil)
	p := connect(t, u, i, 5)
	if code, _ := u.ready(t); code != http.StatusOK {
		t.Errorf("/ready says %d", code)
	}
	by := time.Now().Add(time.Minute).Truncate(time.Millisecond)
	u.set(t, Policy{Keys: []lease.Key{i.key}, Draining: true, DrainBy: by})
	if e := p.host.await(t, relayclient.Draining); !e.By.Equal(by) {
		t.Errorf("by %v, want %v", e.By, by)
	}
	if code, body := u.ready(t); code != http.StatusServiceUnavailable || body.Cause != ErrDraining.Error() {
		t.Errorf("/ready says %d, %+v", code, body)
	}
	refused := newHost(t, u, i.sign(t, testClaims(6)), nil)
	var reject *relaywire.RejectError
	if err := <-refused.result; !errors.As(err, &reject) || reject.Reason != relaywire.Draining {
		t.Errorf("new circuit: %v", err)
	}
	refused.result <- nil
	if err := p.host.send([]byte("\x41on"), p.media); err != nil {
		t.Fatal(err)
	}
	if d := read(t, p.viewer.UDPConn); string(d.b) != "\x41on" {
		t.Errorf("viewer got %q", d.b)
	}
	u.set(t, Policy{Keys: []lease.Key{i.key}})
	if code, _ := u.ready(t); code != http.StatusOK {
		t.Errorf("/ready after the drain was called off says %d", code)
	}
}

// TestStopDrains proves that Run, told to stop, waits for its circuits and says good-bye.
func TestStopDrains(t *testing.T) {
	i := newIssuer(t, "k1")
	u := startTrusting(t, i, func(c *Config) { c.DrainTimeout = testTimeout })
	p := connect(t, u, i, 5)
	u.stop()
	p.host.await(t, relayclient.Draining)
	select {
	case err := <-u.result:
		t.Fatalf("Run returned %v with a circuit", err)
	default:
	}
	p.host.client.Release()
	if err := u.end(t); err != nil {
		t.Errorf("Run: %v", err)
	}
}

// TestRevocation proves that a revoked lease, a banned host and a banned address lose their circuits at once and get no other.
func TestRevocation(t *testing.T) {
	i := newIssuer(t, "k1")
	for name, p := range map[string]Policy{
		"lease":  {Revoked: []string{"lease-5"}},
		"host":   {BannedHosts: []string{"host-1"}},
		"source": {BannedSources: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}},
	} {
		t.Run(name, func(t *testing.T) {
			u := startTrusting(t, i, nil)
			h := newHost(t, u, i.sign(t, testClaims(5)), nil)
			h.await(t, relayclient.Bound)
			p.Keys = []lease.Key{i.key}
			u.set(t, p)
			eventually(t, "circuit ended", func() bool { return u.Circuits() == 0 })
			var reject *relaywire.RejectError
			if err := <-h.result; !errors.As(err, &reject) || reject.Reason != relaywire.Banned {
				t.Errorf("bound again: %v", err)
			}
			h.result <- nil
		})
	}
}

// TestCrash proves that a relay that comes back with nothing gets its circuits back from the hosts within seconds.
func TestCrash(t *testing.T) {
	i := newIssuer(t, "k1")
	u := startTrusting(t, i, nil)
	h := newHost(t, u, i.sign(t, testClaims(5)), nil)
	h.await(t, relayclient.Bound)
	u.engine.mu.Lock() // forgets, as a crash does, but keeps its ports
	for _, ci := range u.engine.circuits {
		u.engine.close(ci, endReleased, 0)
	}
	u.engine.mu.Unlock()
	h.await(t, relayclient.Lost)
	h.await(t, relayclient.Bound)
	if n := u.Circuits(); n != 1 {
		t.Errorf("%d circuits", n)
	}
}

// TestReadyCauses proves what /ready says and when.
func TestReadyCauses(t *testing.T) {
	u := start(t, testConfig(t, newFakeControl()))
	if code, body := u.ready(t); code != http.StatusServiceUnavailable || body.Cause != ErrNoKeys.Error() {
		t.Errorf("without keys: %d %+v", code, body)
	}
	u.set(t, Policy{Keys: []lease.Key{newIssuer(t, "k1").key}})
	if code, body := u.ready(t); code != http.StatusOK || !body.Ready || !slices.Equal(body.Keys, []string{"k1"}) {
		t.Errorf("with a key: %d %+v", code, body)
	}
	u.cfg.CapacityBits = 1000
	u.judge(951)
	if code, body := u.ready(t); code != http.StatusServiceUnavailable || body.Cause != ErrFull.Error() {
		t.Errorf("at its bandwidth: %d %+v", code, body)
	}
	u.judge(860)
	if code, _ := u.ready(t); code != http.StatusServiceUnavailable {
		t.Error("ready again too soon")
	}
	u.judge(840)
	if code, _ := u.ready(t); code != http.StatusOK {
		t.Error("not ready again")
	}
}

func (u *running) ready(t testing.TB) (int, readiness) {
	t.Helper()
	w := httptest.NewRecorder()
	u.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/ready", nil))
	var body readiness
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Fatal(err)
	}
	return w.Code, body
}

// TestMetricNames pins the names of the metrics: dashboards and alerts use them.
func TestMetricNames(t *testing.T) {
	registry := prometheus.NewRegistry()
	cfg := testConfig(t, newFakeControl())
	cfg.Registry = registry
	start(t, cfg)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range families {
		names = append(names, strings.TrimPrefix(f.GetName(), "wavry_relay_"))
		if f.GetName() == "wavry_relay_drops_total" && len(f.GetMetric()) != int(numDrops)-2 { // none and offered are no drops
			t.Errorf("%d reasons of drops, want %d", len(f.GetMetric()), numDrops-2)
		}
	}
	want := "binds_total bytes_total candidate_packets_total candidates_total circuits circuits_ended_total circuits_max cookies_total draining drops_total legs_followed_total " +
		"packets_total policy_timestamp_seconds polling_seconds_total ready rejects_total signing_keys verify_queue viewers_pinned_total"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("metrics are\n%s, want\n%s", got, want)
	}
}

// TestLoadReports proves that Control hears about the load.
func TestLoadReports(t *testing.T) {
	i := newIssuer(t, "k1")
	u := startTrusting(t, i, nil)
	connect(t, u, i, 5)
	for {
		select {
		case l := <-u.control.reports:
			if l.Circuits != 1 {
				continue
			}
			if l.RelayID != "relay-1" || l.Bound != 1 || l.Pinned != 1 || !l.Ready || l.MaxCircuits == 0 {
				t.Errorf("%+v", l)
			}
			return
		case <-time.After(testTimeout):
			t.Fatal("no report")
		}
	}
}

// TestConfigProblems proves that all problems are reported at once, with key and rule.
func TestConfigProblems(t *testing.T) {
	if err := testConfig(t, newFakeControl()).Validate(); err != nil {
		t.Error(err)
	}
	c := DefaultConfig()
	c.MediaPorts, c.ControlPort, c.DataPath, c.DefaultRate = 0, 7481, "wormhole", 1
	err := c.Validate()
	if err == nil {
		t.Fatal("valid")
	}
	for _, key := range []string{"id", "media_ports", "advertise_addr", "key_file", "default_rate", "data_path", "control"} {
		if !strings.Contains(err.Error(), key) {
			t.Errorf("%s is not named in %v", key, err)
		}
	}
	if _, err := New(c); err == nil {
		t.Error("New took it")
	}
	for _, poll := range []struct {
		d    time.Duration
		path string
		ok   bool
	}{
		{0, PathPortable, true}, {1, PathFast, true}, {maxBusyPoll, PathAuto, true},
		{-1, PathAuto, false}, {maxBusyPoll + 1, PathAuto, false}, {1, PathPortable, false},
	} {
		c := testConfig(t, newFakeControl())
		c.BusyPoll, c.DataPath = poll.d, poll.path
		if err := c.Validate(); (err == nil) != poll.ok || err != nil && !strings.Contains(err.Error(), "busy_poll") {
			t.Errorf("busy_poll %v on %s: %v", poll.d, poll.path, err)
		}
	}
}

// TestKeyFile proves that a key is made once, readable by its owner only, and read again.
func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "relay.key")
	first, err := LoadKey(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadKey(path)
	if err != nil || !first.Equal(again) {
		t.Errorf("another key the second time (%v)", err)
	}
	if _, err := LoadKey(t.TempDir()); err == nil {
		t.Error("a directory is a key")
	}
}

// TestFileControl proves that a policy file is read, read again when it changes, and that a broken one changes nothing.
func TestFileControl(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.json")
	applied := make(chan Policy, 4)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	i := newIssuer(t, "k1")
	put := func(v any) {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := replace(path, b); err != nil {
			t.Fatal(err)
		}
	}
	put(filePolicy{Keys: []lease.Key{i.key}, Revoked: []string{"a"}})
	go func() {
		done <- FileControl{Path: path, Every: 5 * time.Millisecond}.Follow(ctx, nil, func(p Policy) error { applied <- p; return nil })
	}()
	if p := <-applied; len(p.Keys) != 1 || p.Keys[0].ID != "k1" || p.Revoked[0] != "a" {
		t.Errorf("%+v", p)
	}
	put("not a policy")
	put(filePolicy{Draining: true})
	if p := <-applied; !p.Draining {
		t.Errorf("%+v", p)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestDualStack proves that a relay bound to :: pairs a host on IPv4 with a viewer on IPv6.
func TestDualStack(t *testing.T) {
	probe, err := net.ListenUDP("udp6", &net.UDPAddr{IP: net.IPv6loopback})
	if err != nil {
		t.Skip("no IPv6 here: ", err)
	}
	probe.Close()
	paths(t, func(t *testing.T, path string) {
		i := newIssuer(t, "k1")
		u := startTrusting(t, i, func(c *Config) {
			c.DataPath, c.Bind, c.Advertise = path, netip.IPv6Unspecified(), netip.MustParseAddr("127.0.0.1")
		})
		h := newHost(t, u, i.sign(t, testClaims(77)), nil)
		media := h.await(t, relayclient.Bound).Media
		viewer, err := net.ListenUDP("udp6", &net.UDPAddr{IP: net.IPv6loopback})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { viewer.Close() })
		first := initial(1200)
		write(t, viewer, first, netip.AddrPortFrom(netip.IPv6Loopback(), media.Port()))
		if d := h.receive(t); !bytes.Equal(d.b, first) {
			t.Errorf("host got %d bytes", len(d.b))
		}
		if err := h.send([]byte("\x41six"), media); err != nil {
			t.Fatal(err)
		}
		if d := read(t, viewer); string(d.b) != "\x41six" {
			t.Errorf("viewer got %q", d.b)
		}
	})
}
