//go:build integration

package gateway

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"

	catalog "github.com/wavry/fleet/master/consul"
)

// agent is a real Consul in development mode.
type agent struct {
	address string
	args    []string
	cmd     *exec.Cmd
}

// startConsul runs the consul binary of PATH on free loopback ports; without the binary the test is skipped, saying so.
func startConsul(t *testing.T) *agent {
	t.Helper()
	path, err := exec.LookPath("consul")
	if err != nil {
		t.Skip("consul is not in PATH")
	}
	ports := freePorts(t, 4)
	a := &agent{address: fmt.Sprint("127.0.0.1:", ports[0])}
	a.args = []string{path, "agent", "-dev", "-bind=127.0.0.1", "-client=127.0.0.1", "-log-level=error", "-grpc-port=-1", "-grpc-tls-port=-1", "-dns-port=-1",
		fmt.Sprint("-http-port=", ports[0]), fmt.Sprint("-server-port=", ports[1]), fmt.Sprint("-serf-lan-port=", ports[2]), fmt.Sprint("-serf-wan-port=", ports[3])}
	a.up(t)
	t.Cleanup(func() { a.down(t) })
	return a
}

func freePorts(t *testing.T, n int) (ports []int) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

func (a *agent) up(t *testing.T) {
	t.Helper()
	a.cmd = exec.Command(a.args[0], a.args[1:]...)
	a.cmd.Dir = t.TempDir()
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	client := a.client(t)
	eventually(t, "consul has a leader", func() bool {
		leader, err := client.Status().Leader()
		return err == nil && leader != ""
	})
}

func (a *agent) down(t *testing.T) {
	t.Helper()
	if a.cmd.ProcessState != nil {
		return
	}
	if err := a.cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = a.cmd.Wait() // killed
}

func (a *agent) client(t *testing.T) *consul.Client {
	t.Helper()
	config := consul.DefaultNonPooledConfig()
	config.Address = a.address
	c, err := consul.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The gateway registers itself with a check that passes, comes back after Consul lost everything, and leaves when it stops.
func TestConsulRegistration(t *testing.T) {
	a := startConsul(t)
	ports := freePorts(t, 2)
	people, ops := fmt.Sprint("127.0.0.1:", ports[0]), fmt.Sprint("127.0.0.1:", ports[1])
	cat, err := catalog.New(catalog.Config{Address: a.address})
	if err != nil {
		t.Fatal(err)
	}
	defer cat.Close()
	s := startSite(t, func(c *Config) {
		c.ID, c.BindAddr, c.OpsAddr = "gw-1", people, ops
		c.Consul = &Consul{Catalog: cat, Service: DefaultService, Tags: []string{"web"}, AdvertiseAddr: people, AdvertiseOps: ops}
	})
	client := a.client(t)
	passing := func() int {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		entries, _, err := client.Health().Service(DefaultService, "web", true, (&consul.QueryOptions{}).WithContext(ctx))
		if err != nil {
			return -1
		}
		for _, e := range entries {
			if e.Service.Port != ports[0] || e.Service.Meta["gateway_id"] != "gw-1" {
				t.Errorf("registered as %+v", e.Service)
			}
		}
		return len(entries)
	}
	eventually(t, "registered and passing", func() bool { return passing() == 1 })
	a.down(t)
	a.up(t) // in development mode nothing is kept
	eventually(t, "registered again", func() bool { return passing() == 1 })
	s.stop()
	if n := passing(); n != 0 {
		t.Fatalf("%d services are left after the gateway stopped", n)
	}
}
