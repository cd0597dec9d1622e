package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/wavry/fleet/master"
	"github.com/wavry/fleet/master/hostrule"
	"github.com/wavry/fleet/master/identity"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/masterclient"
	"github.com/wavry/fleet/master/mastertest"
	"github.com/wavry/fleet/master/seal"
)

const serverArg = "serve-master"

const kekText = "benchmark-key-encryption-key-of-32-bytes-or-more"

var tokens = identity.Tokens{
	"gateway": {Role: identity.RoleGateway, Name: "bench"}, "host": {Role: identity.RoleHost, Name: "*"},
	"operator": {Role: identity.RoleOperator, Name: "bench"},
}

// serve is the child process: one master.
func serve(args []string) error {
	flags := flag.NewFlagSet(serverArg, flag.ContinueOnError)
	id, dir, peerList, profile := flags.String("id", "", ""), flags.String("dir", "", ""), flags.String("peers", "", ""), flags.String("profile", "", "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	peers := map[string]string{}
	for p := range strings.SplitSeq(*peerList, ",") {
		k, v, _ := strings.Cut(p, "=")
		peers[k] = v
	}
	kek, err := seal.Parse(kekText)
	if err != nil {
		return err
	}
	cfg := master.DefaultConfig()
	cfg.ID, cfg.Bind, cfg.DataDir, cfg.BootstrapExpect, cfg.Peers, cfg.KEK = *id, peers[*id], *dir, len(peers), peers, kek
	cfg.Authenticator, cfg.OpsAddr, cfg.LeaseLifetime = tokens, "", time.Hour
	if cfg.HostRules, err = hostrule.Parse([]string{"*=*/4294967295"}); err != nil {
		return err
	}
	if cfg.Identity, err = tlsFiles(filepath.Dir(*dir), *id).Load(); err != nil {
		return err
	}
	cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	debug.SetGCPercent(master.GCPercent) // as wavry master does
	debug.SetMemoryLimit(master.MemoryLimit)
	m, err := master.New(cfg)
	if err != nil {
		return err
	}
	if *profile != "" {
		file, err := os.Create(filepath.Join(*profile, *id+".pprof"))
		if err != nil {
			return err
		}
		defer file.Close()
		if err := pprof.StartCPUProfile(file); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return m.Run(ctx)
}

// tlsFiles are where startMasters puts the authority and the certificates of the servers.
func tlsFiles(dir, id string) identity.Files {
	return identity.Files{Authority: filepath.Join(dir, "ca.pem"), Certificate: filepath.Join(dir, id+".pem"), Key: filepath.Join(dir, id+"-key.pem")}
}

// masters are three servers with hosts linked by this process.
type masters struct {
	dir, profile string
	trust        *identity.Source // of clients
	peers        map[string]string
	list         string
	servers      map[string]*child
	stopHosts    func()
}

func startMasters(ctx context.Context, dir, profile string) (*masters, error) {
	authority, ca, err := identity.NewAuthority(time.Now(), 24*time.Hour)
	if err != nil {
		return nil, err
	}
	if err := ca.WriteFiles(dir, "ca"); err != nil {
		return nil, err
	}
	m := &masters{trust: authority.Trust(), dir: dir, profile: profile, peers: map[string]string{}, servers: map[string]*child{}}
	for i := range 3 {
		address, err := freeAddress()
		if err != nil {
			return nil, err
		}
		id := fmt.Sprintf("m%d", i+1)
		m.peers[id] = address
		pair, err := authority.Issue(identity.Identity{Role: identity.RoleMaster, Name: id}, nil, time.Now(), 24*time.Hour)
		if err != nil {
			return nil, err
		}
		if err := pair.WriteFiles(dir, id); err != nil {
			return nil, err
		}
		m.list += "," + id + "=" + address
	}
	m.list = m.list[1:]
	for id := range m.peers {
		if err := m.start(id); err != nil {
			return nil, err
		}
	}
	return m, m.linkHosts(ctx)
}

func (m *masters) start(id string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir := filepath.Join(m.dir, "master-"+id)
	c, err := start(dir+".log", self, serverArg, "-id="+id, "-dir="+dir, "-peers="+m.list, "-profile="+m.profile)
	if err != nil {
		return err
	}
	m.servers[id] = c
	return nil
}

func (m *masters) stop() {
	if m.stopHosts != nil {
		m.stopHosts()
	}
	for _, s := range m.servers {
		s.terminate()
	}
}

func (m *masters) children() (list []*child) {
	for _, c := range m.servers {
		list = append(list, c)
	}
	return list
}

func (m *masters) client(token string) (*masterclient.Client, error) {
	var addresses []string
	for _, a := range m.peers {
		addresses = append(addresses, a)
	}
	return masterclient.New(masterclient.Config{Addresses: addresses, TLS: m.trust.Client(identity.RoleMaster), Token: func() (string, error) { return token, nil }, RetryFor: 20 * time.Second})
}

const (
	benchHosts = 20
	benchSlots = 1 << 20
)

// linkHosts keeps hosts with many slots linked, which prepare every session at once.
func (m *masters) linkHosts(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{}, benchHosts)
	started := 0
	m.stopHosts = func() {
		cancel()
		for range started {
			<-done
		}
	}
	var hosts []*mastertest.Host
	for i := range benchHosts {
		client, err := m.client("host")
		if err != nil {
			return err
		}
		h, err := mastertest.NewHost(client, &masterapi.HostHello{HostId: fmt.Sprintf("host%d", i), BootId: "b", Slots: benchSlots}, nil)
		if err != nil {
			client.Close()
			return err
		}
		hosts, started = append(hosts, h), started+1
		go func() { // until stopHosts
			defer func() { done <- struct{}{} }()
			defer client.Close()
			_ = h.Run(ctx)
		}()
	}
	return until(ctx, 30*time.Second, func() bool {
		return !slices.ContainsFunc(hosts, func(h *mastertest.Host) bool { return !h.Link.Linked() })
	})
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func until(ctx context.Context, limit time.Duration, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready within %s: %w", limit, ctx.Err())
		case <-ticker.C:
		}
	}
	return nil
}
