package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	consul "github.com/hashicorp/consul/api"
	nomad "github.com/hashicorp/nomad/api"
)

// Nodes are the Nomad clients, named after the desktop that each has.
var Nodes = []string{"node-sway", "node-gnome", "node-kde"}

const (
	// startLimit is how long one part may take to answer: three desktops start at once on two cores.
	startLimit = 60 * time.Second
	// poll is how often something is looked for.
	poll = 100 * time.Millisecond
	// stopLimit is how long a server may take to end in order.
	stopLimit = 10 * time.Second
	// dynamicPorts is how many ports each Nomad client gives to tasks.
	dynamicPorts = 300
)

// ports of one fleet. Servers get free ones; tasks get ranges by Nomad.
type ports struct {
	consul   [3][3]int // HTTP, RPC, Serf of each server
	nomad    [4][3]int // HTTP, RPC, Serf of the server and each client
	dynamic  int       // first of the clients' ranges
	postgres int
}

func choosePorts() (p ports, err error) {
	var held []net.Listener // all at once, so that they differ
	defer func() {
		for _, l := range held {
			_ = l.Close() // it served to find a number
		}
	}()
	free := func() int {
		l, e := net.Listen("tcp", "127.0.0.1:0")
		if e != nil {
			err = errors.Join(err, e)
			return 0
		}
		held = append(held, l)
		return l.Addr().(*net.TCPAddr).Port
	}
	for i := range p.consul {
		p.consul[i] = [3]int{free(), free(), free()}
	}
	for i := range p.nomad {
		p.nomad[i] = [3]int{free(), free(), free()}
	}
	p.postgres = free()
	p.dynamic = 20000 + 1000*rand.IntN(10) // below the ports that the kernel gives out
	return p, err
}

// server is one Consul or Nomad agent.
type server struct {
	args []string
	cmd  *exec.Cmd
	done chan struct{}
}

// start runs an agent with its output in logs/.
func (f *Fleet) start(name, binary string, args ...string) error {
	log, err := os.OpenFile(filepath.Join(f.dir, "logs", name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	s := &server{args: append([]string{binary}, args...), done: make(chan struct{})}
	s.cmd = exec.Command(filepath.Join(f.cfg.Engines, binary), args...)
	s.cmd.Stdout, s.cmd.Stderr, s.cmd.Dir = log, log, f.dir
	s.cmd.Env = append(plainEnviron(), "NOMAD_LICENSE=") // nothing of the operator's own cluster
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	go func() { // ends with the process
		_ = s.cmd.Wait() // however it ended
		close(s.done)
	}()
	f.servers[name] = s
	return nil
}

// plainEnviron is ours without settings for another Nomad, Consul or fleet.
func plainEnviron() (list []string) {
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "NOMAD_") && !strings.HasPrefix(e, "CONSUL_") && !strings.HasPrefix(e, "WAVRY_") {
			list = append(list, e)
		}
	}
	return list
}

// Kill ends an agent (consul1 to consul3, nomad, or a node) with SIGKILL; what it started lives on.
func (f *Fleet) Kill(name string) {
	s := f.servers[name]
	_ = s.cmd.Process.Kill() // it may have ended
	<-s.done
}

// Restart starts an agent that was killed.
func (f *Fleet) Restart(name string) error {
	s := f.servers[name]
	return f.start(name, s.args[0], s.args[1:]...)
}

func (f *Fleet) startConsul(ctx context.Context) error {
	var join []string
	for _, p := range f.ports.consul {
		join = append(join, fmt.Sprintf("%q", fmt.Sprintf("127.0.0.1:%d", p[2])))
	}
	for i, p := range f.ports.consul {
		name := fmt.Sprintf("consul%d", i+1)
		text := fmt.Sprintf(`
server = true
bootstrap_expect = 3
node_name = %q
datacenter = "fleet"
data_dir = %q
bind_addr = "127.0.0.1"
client_addr = "127.0.0.1"
disable_update_check = true
leave_on_terminate = false
log_level = "warn"
ports { http = %d, server = %d, serf_lan = %d, grpc = -1, grpc_tls = -1, dns = -1, serf_wan = -1 }
retry_join = [%s]
retry_interval = "1s"
performance { raft_multiplier = 1 }
connect { enabled = false }
acl {
  enabled = true
  default_policy = "deny"
  tokens { initial_management = %q, agent = %q }
}
`, name, filepath.Join(f.dir, name), p[0], p[1], p[2], strings.Join(join, ", "), f.secrets.consul, f.secrets.consul)
		if err := f.startAgent(name, "consul", text, "agent", "-config-file"); err != nil {
			return err
		}
	}
	c := consul.DefaultNonPooledConfig()
	c.Address, c.Token = f.consulAddr(0), f.secrets.consul
	client, err := consul.NewClient(c)
	if err != nil {
		return err
	}
	f.Consul = client
	return f.Wait(ctx, "Consul has a leader and its access control", func() bool {
		_, _, err := client.ACL().TokenReadSelf(nil)
		return err == nil
	})
}

func (f *Fleet) startAgent(name, binary, config string, args ...string) error {
	path := filepath.Join(f.dir, name+".hcl")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return err
	}
	return f.start(name, binary, append(args, path)...)
}

func (f *Fleet) consulAddr(i int) string { return fmt.Sprintf("127.0.0.1:%d", f.ports.consul[i][0]) }

func (f *Fleet) nomadAddr() string { return fmt.Sprintf("http://127.0.0.1:%d", f.ports.nomad[0][0]) }

func (f *Fleet) jwksURL() string { return f.nomadAddr() + "/.well-known/jwks.json" }

// agentConfig is what every Nomad agent has.
func (f *Fleet) agentConfig(name string, i int, more string) string {
	p := f.ports.nomad[i]
	return fmt.Sprintf(`
name = %q
datacenter = "fleet"
data_dir = %q
bind_addr = "127.0.0.1"
disable_update_check = true
log_level = "warn"
ports { 
  http = %d 
  rpc = %d 
  serf = %d 
}
advertise { 
  http = "127.0.0.1" 
  rpc = "127.0.0.1" 
  serf = "127.0.0.1" 
}
%s`, name, filepath.Join(f.dir, name, "n"), p[0], p[1], p[2], more)
}

func (f *Fleet) startNomad(ctx context.Context) error {
	if err := f.makePolicies(); err != nil {
		return err
	}
	serverConfig := f.agentConfig("nomad", 0, fmt.Sprintf(`
server {
  enabled = true
  bootstrap_expect = 1
  raft_multiplier = 1
  min_heartbeat_ttl = "3s"
  heartbeat_grace = "4s"
}
consul {
  address = %q
  token = %q
  service_identity { 
    aud = ["consul.io"] 
    ttl = "1h" 
  }
  task_identity { 
    aud = ["consul.io"] 
    ttl = "1h" 
  }
}
`, f.consulAddr(0), f.secrets.nomadConsul))
	if err := os.MkdirAll(filepath.Join(f.dir, "nomad"), 0o711); err != nil {
		return err
	}
	if err := f.startAgent("nomad", "nomad", serverConfig, "agent", "-config"); err != nil {
		return err
	}
	// A client that registers before the server can sign identities tries again only after 15 s.
	err := f.Wait(ctx, "Nomad has a leader and keys", func() bool {
		answer, err := http.Get(f.jwksURL())
		if err != nil {
			return false
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		return err == nil && strings.Contains(string(text), `"kid"`)
	})
	if err != nil {
		return err
	}
	for i, node := range Nodes {
		if err := f.startAgent(node, "nomad", f.clientConfig(i), "agent", "-config"); err != nil {
			return err
		}
	}
	client, err := nomad.NewClient(&nomad.Config{Address: f.nomadAddr(), Namespace: namespace})
	if err != nil {
		return err
	}
	f.Nomad = client
	return f.Wait(ctx, "three Nomad clients are ready", func() bool {
		nodes, _, err := client.Nodes().List(nil)
		ready := 0
		for _, n := range nodes {
			if n.Status == "ready" {
				ready++
			}
		}
		return err == nil && ready == len(Nodes)
	})
}

// clientConfig of one node: its desktop is in its name, every node has a place for data, two have relays.
func (f *Fleet) clientConfig(i int) string {
	node := Nodes[i]
	first := f.ports.dynamic + i*dynamicPorts
	meta := map[string]string{"wavry_desktops": strings.TrimPrefix(node, "node-"), "wavry_data": filepath.Join(f.dir, node, "data"), "wavry_consul": f.consulAddr(i)}
	switch i {
	case 0:
		meta["wavry_relay"], meta["wavry_capture"] = "true", "capture-wayland/wlr-screencopy,capture-wayland"
	case 1:
		meta["wavry_relay"] = "true"
	case 2:
		meta["wavry_postgres"], meta["wavry_prometheus"], meta["wavry_backup"] = "true", "true", filepath.Join(f.dir, "backup")
	}
	lines := ""
	for k, v := range meta {
		lines += fmt.Sprintf("    %s = %q\n", k, v)
	}
	return f.agentConfig(node, i+1, fmt.Sprintf(`
client {
  enabled = true
  servers = ["127.0.0.1:%d"]
  network_interface = "lo"
  options = { 
    "fingerprint.denylist" = "env_aws,env_gce,env_azure,env_digitalocean" 
  }
  cpu_total_compute = 16000
  memory_total_mb = 16384
  min_dynamic_port = %d
  max_dynamic_port = %d
  gc_disk_usage_threshold = 99
  gc_inode_usage_threshold = 99
  max_kill_timeout = "10m"
  meta {
%s  }
}
plugin "raw_exec" { 
  config { 
    enabled = true 
  } 
}
consul {
  address = %q
  token = %q
  task_auth_method = %q
  service_auth_method = %q
}
`, f.ports.nomad[0][1], first, first+dynamicPorts-1, lines, f.consulAddr(i), f.secrets.nomadConsul, authMethod, authMethod))
}

// Wait polls until cond holds, ctx ends, or startLimit has passed.
func (f *Fleet) Wait(ctx context.Context, what string, cond func() bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("never happened: %s", what))
	defer cancel()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (f *Fleet) waitListening(ctx context.Context, port string) error {
	return f.Wait(ctx, "PostgreSQL listens", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			_ = c.Close() // nothing was said
		}
		return err == nil
	})
}
