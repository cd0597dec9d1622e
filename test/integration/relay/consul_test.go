//go:build integration

package relay_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/wavry/fleet/master/catalog"
	"github.com/wavry/fleet/master/consul"
	"github.com/wavry/fleet/relay"
)

// agent is a Consul agent in development mode: it keeps nothing, so to kill it is to empty it.
type agent struct {
	*api.Client
	cmd  *exec.Cmd
	port int
}

func consulBinary(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("WAVRY_CONSUL_BIN"); path != "" {
		return path
	}
	path, err := exec.LookPath("consul")
	if err != nil {
		t.Fatal("no consul: put it on PATH or set WAVRY_CONSUL_BIN (https://developer.hashicorp.com/consul/install)")
	}
	return path
}

func startConsul(t testing.TB, port int) *agent {
	t.Helper()
	if port == 0 {
		_, text, err := net.SplitHostPort(freeTCP(t))
		if err != nil {
			t.Fatal(err)
		}
		if port, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	free := func() string { _, p, _ := net.SplitHostPort(freeTCP(t)); return p }
	a := &agent{port: port}
	a.cmd = exec.Command(consulBinary(t), "agent", "-dev", "-log-level=err", "-bind=127.0.0.1", "-client=127.0.0.1", "-http-port="+strconv.Itoa(port), "-dns-port=-1",
		"-grpc-port=-1", "-grpc-tls-port=-1", "-server-port="+free(), "-serf-lan-port="+free(), "-serf-wan-port=-1",
		"-hcl=performance { raft_multiplier = 1 } connect { enabled = false }")
	a.cmd.Stderr = os.Stderr
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.kill() })
	var err error
	a.Client, err = api.NewClient(&api.Config{Address: fmt.Sprintf("127.0.0.1:%d", port), HttpClient: client})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "consul has a leader", func() bool { leader, err := a.Status().Leader(); return err == nil && leader != "" })
	return a
}

func (a *agent) kill() {
	if a.cmd.ProcessState == nil {
		a.cmd.Process.Kill()
		a.cmd.Wait()
	}
}

// relays lists what Consul has.
func (a *agent) relays(passing bool) []*api.ServiceEntry {
	entries, _, err := a.Health().Service(catalog.ServiceRelay, "", passing, nil)
	if err != nil {
		return nil
	}
	return entries
}

// TestConsul proves that the relay registers itself with everything the fleet wants to know, that its check follows /ready, that it
// registers again after Consul was killed and emptied while a session runs on, and that it takes itself out when it leaves.
func TestConsul(t *testing.T) {
	a := startConsul(t, 0)
	s := newSite(t)
	cat, err := consul.New(consul.Config{Address: fmt.Sprintf("127.0.0.1:%d", a.port)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cat.Close)
	s.change = func(c *relay.Config) {
		c.Region, c.Version, c.HandoverPath = "lab", "1.2.3", ""
		c.Catalog, c.CheckURL = cat, "http://"+c.HTTPAddr+"/ready"
	}
	u := s.start(t)
	eventually(t, "registered and passing", func() bool { return len(a.relays(true)) == 1 })
	e := a.relays(true)[0].Service
	if e.Meta["id"] != "r1" || e.Meta["region"] != "lab" || e.Meta["version"] != "1.2.3" || e.Meta["address"] != u.ControlAddr().String() || e.Meta["public_key"] == "" {
		t.Errorf("registered as %+v", e)
	}
	h := startHost(t, u, s.token(t, "k1", 77))
	v := dial(t, h.media)
	v.mustEcho(t, "with consul", 1<<20)
	a.kill()
	v.mustEcho(t, "without consul", 1<<20)
	again := startConsul(t, a.port)
	eventually(t, "registered in the empty consul", func() bool { return len(again.relays(true)) == 1 })
	v.mustEcho(t, "after consul came back", 1<<20)
	began := time.Now()
	u.Drain()
	eventually(t, "check critical", func() bool { return len(again.relays(true)) == 0 })
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("a relay that is not ready passed for %v", took)
	}
	if code := u.get("/ready"); code != http.StatusServiceUnavailable {
		t.Errorf("/ready says %d", code)
	}
	if err := u.end(t); err != nil {
		t.Errorf("Run: %v", err)
	}
	if left := again.relays(false); len(left) != 0 {
		t.Errorf("left behind in consul: %+v", left[0].Service)
	}
}
