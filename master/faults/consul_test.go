//go:build integration

package faults

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/serf/coordinate"

	"github.com/wavry/fleet/master/catalog"
	"github.com/wavry/fleet/master/consul"
	"github.com/wavry/fleet/master/masterapi"
)

// agent is one real Consul server with its state in dir.
type agent struct {
	t        *testing.T
	binary   string
	http     string
	serf     [3]string
	cmd      *exec.Cmd
	restarts int
}

func startConsul(t *testing.T) *agent {
	t.Helper()
	binary := os.Getenv("WAVRY_CONSUL_BIN")
	if binary == "" {
		var err error
		if binary, err = exec.LookPath("consul"); err != nil {
			t.Skip("no consul in PATH and WAVRY_CONSUL_BIN is empty")
		}
	}
	a := &agent{t: t, binary: binary, http: freeAddress(t)}
	for i := range a.serf {
		a.serf[i] = port(t, freeAddress(t))
	}
	a.start()
	t.Cleanup(a.kill)
	return a
}

func port(t *testing.T, address string) string {
	t.Helper()
	_, p, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// start runs Consul with empty state.
func (a *agent) start() {
	a.t.Helper()
	a.restarts++
	log, err := os.Create(filepath.Join(a.t.TempDir(), fmt.Sprint("consul", a.restarts, ".log")))
	if err != nil {
		a.t.Fatal(err)
	}
	defer log.Close()
	a.cmd = exec.Command(a.binary, "agent", "-dev", "-bind=127.0.0.1", "-client=127.0.0.1", "-http-port="+port(a.t, a.http), "-grpc-port=-1", "-grpc-tls-port=-1",
		"-dns-port=-1", "-server-port="+a.serf[0], "-serf-lan-port="+a.serf[1], "-serf-wan-port="+a.serf[2], "-log-level=warn")
	a.cmd.Stdout, a.cmd.Stderr = log, log
	if err := a.cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	eventually(a.t, 30*time.Second, "consul has a leader", func() bool {
		leader, err := a.client().Status().Leader()
		return err == nil && leader != ""
	})
}

func (a *agent) kill() {
	if a.cmd != nil {
		_ = a.cmd.Process.Kill()
		_ = a.cmd.Wait()
		a.cmd = nil
	}
}

func (a *agent) client() *api.Client {
	a.t.Helper()
	c, err := api.NewClient(&api.Config{Address: a.http})
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

// TestConsul proves with a real Consul that servers find each other by bootstrap_expect; that a relay whose check turns critical gets no lease within
// two seconds; that while Consul is away the last known health is used and nothing is ended; and that an emptied Consul has the servers again.
func TestConsul(t *testing.T) {
	a := startConsul(t)
	s := start(t, 3, func(c *childConfig) { c.Peers, c.Consul = nil, a.http })
	s.leader()
	eventually(t, 30*time.Second, "all servers ready", func() bool { return s.ready("m1") && s.ready("m2") && s.ready("m3") })
	s.link("h1", 1000)
	s.relay("r1")
	var ready atomic.Bool
	ready.Store(true)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !ready.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	register := func() {
		p, err := strconv.Atoi(port(t, listener.Addr().String()))
		if err != nil {
			t.Fatal(err)
		}
		for _, service := range [][2]string{{"wavry-relay", "r1"}, {"wavry-host", "h1"}} {
			check := &api.AgentServiceCheck{HTTP: "http://" + listener.Addr().String(), Interval: "500ms", Timeout: "1s"}
			if service[0] == "wavry-host" {
				check = &api.AgentServiceCheck{TTL: "1h", Status: api.HealthPassing}
			}
			err := a.client().Agent().ServiceRegister(&api.AgentServiceRegistration{
				ID: service[0] + service[1], Name: service[0], Address: "127.0.0.1", Port: p, Meta: map[string]string{"id": service[1]}, Check: check,
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	register()
	op, gw := s.client("operator"), s.client("gateway")
	relay := func() *masterapi.Relay {
		r, err := op.Fleet().GetRelay(testContext(t), &masterapi.GetRelayRequest{RelayId: "r1"})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	n := 0
	throughRelay := func() bool {
		n++
		r, err := gw.Sessions().Admit(testContext(t), &masterapi.AdmitRequest{ViewerKey: viewerKey, RequestId: fmt.Sprint("q", n), Login: "ada"})
		if err != nil {
			t.Fatalf("issue: %v", err)
		}
		return slices.ContainsFunc(r.GetCandidates(), func(c *masterapi.Candidate) bool { return c.GetRelayId() == "r1" })
	}
	eventually(t, 20*time.Second, "relay passing by Consul", func() bool {
		return relay().GetHealth().GetStatus() == "passing" && relay().GetHealth().GetSource() == "consul"
	})
	if !throughRelay() {
		t.Fatal("a healthy relay got no lease")
	}

	ready.Store(false)
	eventually(t, 10*time.Second, "consul calls it critical", func() bool {
		entries, _, err := a.client().Health().Service("wavry-relay", "", false, nil)
		return err == nil && len(entries) == 1 && entries[0].Checks.AggregatedStatus() == api.HealthCritical
	})
	critical := time.Now()
	eventually(t, 2*time.Second, "no more leases for a critical relay", func() bool { return !throughRelay() })
	t.Logf("no lease %s after Consul called the relay critical", time.Since(critical).Round(time.Millisecond))
	ready.Store(true)
	eventually(t, 20*time.Second, "leases again", throughRelay)

	before, err := op.Leases().List(testContext(t), &masterapi.ListLeasesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	a.kill()
	eventually(t, 20*time.Second, "health marked stale", func() bool { return relay().GetHealth().GetStale() })
	if relay().GetHealth().GetStatus() != "passing" || !throughRelay() {
		t.Errorf("with Consul away: %v", relay().GetHealth())
	}
	a.start() // empty
	eventually(t, 20*time.Second, "the servers are registered again", func() bool {
		entries, _, err := a.client().Health().Service("wavry-master", "", false, nil)
		return err == nil && len(entries) == 3
	})
	if !throughRelay() {
		t.Error("an emptied Consul took the relay out")
	}
	register()
	eventually(t, 20*time.Second, "health is fresh again", func() bool { h := relay().GetHealth(); return !h.GetStale() && h.GetStatus() == "passing" })
	after, err := op.Leases().List(testContext(t), &masterapi.ListLeasesRequest{})
	if err != nil || len(after.GetLeases()) < len(before.GetLeases()) {
		t.Errorf("%d leases before, %d after, %v", len(before.GetLeases()), len(after.GetLeases()), err)
	}
}

// TestCoordinates proves with a real Consul that the round trip between two nodes is what its network coordinates say, and unknown for a node without.
func TestCoordinates(t *testing.T) {
	a := startConsul(t)
	for i, node := range []string{"near", "far", "new"} {
		if _, err := a.client().Catalog().Register(&api.CatalogRegistration{Node: node, Address: fmt.Sprint("192.0.2.", i+1)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	for node, seconds := range map[string]float64{"near": 0.001, "far": 0.041} {
		where := coordinate.NewCoordinate(coordinate.DefaultConfig())
		where.Vec[0], where.Height = seconds, 0
		if _, err := a.client().Coordinate().Update(&api.CoordinateEntry{Node: node, Coord: where}, nil); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 30*time.Second, "Consul has the coordinates", func() bool { // it writes them in batches
		entries, _, err := a.client().Coordinate().Node("far", nil)
		return err == nil && len(entries) == 1
	})
	c, err := consul.New(consul.Config{Address: a.http})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	watched := make(chan error, 1)
	go func() { watched <- c.Watch(ctx, catalog.ServiceRelay, func(catalog.Update) {}) }()
	defer func() {
		cancel()
		if err := <-watched; err != nil {
			t.Error(err)
		}
	}()
	eventually(t, 10*time.Second, "the coordinates are read", func() bool { return c.RTT("near", "far") != 0 })
	if rtt := c.RTT("near", "far"); rtt < 39.9 || rtt > 40.1 {
		t.Errorf("round trip %f ms, want 40", rtt)
	}
	if rtt := c.RTT("near", "new"); rtt != 0 {
		t.Errorf("round trip to a node without a coordinate: %f ms", rtt)
	}
}
