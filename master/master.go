// Package master is the control plane: 1, 3 or 5 servers that agree through Raft on relays, hosts, sessions, leases, signing keys, bans and the audit, and
// serve the API of package masterapi. Gateways ask it for desktops; hosts and relays hold links to its leader.
//
// Master only wires. The parts are: state (what is agreed), raftnode (how), choose, health, expire (pure decisions), socket (one port), and in this
// package the leader with its links, admissions and timers, one file each. DESIGN.md says why.
package master

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/wavry/fleet/master/catalog"
	"github.com/wavry/fleet/master/identity"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/masterapi/masterapiconnect"
	"github.com/wavry/fleet/master/masterclient"
	"github.com/wavry/fleet/master/raftnode"
	"github.com/wavry/fleet/master/socket"
	"github.com/wavry/fleet/master/state"
)

// Master is one server of the control plane.
type Master struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	keys    *keyring
	auth    identity.Authenticator
	pilot   *pilot

	node    *raftnode.Node // set once by Run, before opened is closed
	address string         // advertised; set once by Run, before listening is closed
	peers   *masterclient.Client
	forward http.Handler

	listening   chan struct{} // closed when address is set
	opened      chan struct{} // closed when node is set
	streams     streams
	bansChanged chan struct{} // nudges cutRevoked

	inbox  atomic.Pointer[inbox]
	leader atomic.Pointer[leader]
}

// New checks the configuration; Run opens everything.
func New(cfg Config) (*Master, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("master configuration: %w", err)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	auth := identity.Chain{identity.Certificate{}}
	if cfg.Authenticator != nil {
		auth = append(auth, cfg.Authenticator)
	}
	m := &Master{
		cfg: cfg, log: cfg.Logger.With("component", "master", "server_id", cfg.ID), keys: newKeyring(cfg.KEK),
		auth: identity.Forwarded{Inner: auth}, listening: make(chan struct{}), opened: make(chan struct{}), bansChanged: make(chan struct{}, 1),
	}
	m.metrics = newMetrics(cfg.registerer())
	m.pilot = newPilot(m)
	return m, nil
}

// Address is where this server is reached, once it listens; empty before.
func (m *Master) Address() string {
	select {
	case <-m.listening:
		return m.address
	default:
		return ""
	}
}

// Listening is closed when Address is known.
func (m *Master) Listening() <-chan struct{} { return m.listening }

// running returns the Raft node, nil while it starts.
func (m *Master) running() *raftnode.Node {
	select {
	case <-m.opened:
		return m.node
	default:
		return nil
	}
}

// Run serves until ctx ends (nil) or the server cannot go on (an error that says why).
//
// Shutdown order: lead no more and hand the leadership over, so that nobody waits for an election; let running calls end; stop listening;
// stop Raft last, because everything before may still commit.
func (m *Master) Run(ctx context.Context) error {
	listener, err := m.listen(ctx)
	if err != nil {
		return err
	}
	ops, err := m.listenOps(ctx)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	mux := socket.New(m.socketConfig(listener))
	if err := m.connectPeers(); err != nil {
		return errors.Join(err, listener.Close(), closeOps(ops))
	}
	defer m.peers.Close()
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group, work := errgroup.WithContext(work)
	group.Go(func() error { return mux.Run(work) })
	node, err := raftnode.Open(m.raftConfig(mux))
	if err != nil {
		stop()
		return errors.Join(fmt.Errorf("server %s: %w", m.cfg.ID, err), group.Wait(), closeOps(ops))
	}
	m.node = node
	close(m.opened)
	leading, lead := context.WithCancel(work)
	defer lead()
	server := m.newServer()
	group.Go(func() error { return node.Run(work) })
	group.Go(func() error { return m.followLeadership(leading) })
	group.Go(func() error { return m.cutRevoked(work, mux) })
	group.Go(func() error { return m.joinCluster(leading) })
	group.Go(func() error { return m.keepRegistered(leading) })
	group.Go(func() error { return serveHTTP(server, mux.HTTP()) })
	group.Go(func() error { return m.serveOps(work, ops) })
	m.log.Info("serving", "address", m.address, "version", m.cfg.Version)
	select {
	case <-ctx.Done():
	case <-work.Done():
	}
	lead()
	m.handOver()
	m.stopServing(server)
	stop()
	err = errors.Join(group.Wait(), node.Close())
	if errors.Is(err, raftnode.ErrStorage) {
		err = fmt.Errorf("server %s steps down: %w: free space or repair the disk, then start it again", m.cfg.ID, err)
		m.log.Error("server steps down", "err", err)
	}
	return err
}

func (m *Master) listen(ctx context.Context) (net.Listener, error) {
	listener := m.cfg.Listener
	if listener == nil {
		var config net.ListenConfig
		var err error
		if listener, err = config.Listen(ctx, "tcp", m.cfg.Bind); err != nil {
			return nil, fmt.Errorf("listen: %w", err)
		}
	}
	m.address = m.cfg.Advertise
	if m.address == "" {
		m.address = listener.Addr().String()
	}
	if !routable(m.address) && m.cfg.Listener == nil {
		return nil, errors.Join(fmt.Errorf("advertise: %q cannot be reached by others: configure advertise", m.address), listener.Close())
	}
	close(m.listening)
	return listener, nil
}

func (m *Master) socketConfig(listener net.Listener) socket.Config {
	return socket.Config{
		Listener: listener, Advertise: m.address, Dial: m.cfg.Dial, Logger: m.cfg.Logger,
		Refuse: func(id identity.Identity) bool { return m.running() != nil && m.revocation(id) != nil },
		Server: m.cfg.Identity.Server(socket.Protocols(!m.cfg.alone())...), Client: m.cfg.Identity.Client(identity.RoleMaster, socket.RaftProtocols()...),
	}
}

func (m *Master) raftConfig(mux *socket.Mux) raftnode.Config {
	c := raftnode.Config{
		ID: m.cfg.ID, Dir: m.cfg.DataDir, Advertise: m.address, Election: m.cfg.Election, SnapshotThreshold: m.cfg.SnapshotThreshold, SegmentSize: m.cfg.LogSegment,
		Observe: m.observe, Now: m.cfg.Now, Logger: m.cfg.Logger,
	}
	if !m.cfg.alone() {
		c.Stream = mux.Raft()
	}
	return c
}

// observe hands what was applied to the leader, if this server leads. It is called on Raft's goroutine.
func (m *Master) observe(events []state.Event, restored bool) {
	m.bansMayHaveChanged(events, restored)
	if i := m.inbox.Load(); i != nil {
		i.put(events, restored)
	}
}

// connectPeers makes the client for calls to the other servers.
func (m *Master) connectPeers() error {
	c := masterclient.Config{Addresses: []string{m.address}, Dial: m.cfg.Dial, Logger: m.cfg.Logger, TLS: m.cfg.Identity.Client(identity.RoleMaster)}
	var err error
	if m.peers, err = masterclient.New(c); err != nil {
		return fmt.Errorf("client for the other servers: %w", err)
	}
	m.forward = m.newForwarder()
	return nil
}

// followLeadership leads while Raft says so.
func (m *Master) followLeadership(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case is := <-m.node.Leadership():
			if !is {
				continue
			}
			if err := m.leadUntilDeposed(ctx); err != nil {
				return err
			}
		}
	}
}

// leadUntilDeposed returns when Raft says that the leadership is lost or ctx ends.
func (m *Master) leadUntilDeposed(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- m.leadAgain(ctx) }() // owned by this function, which waits for it
	for {
		select {
		case is := <-m.node.Leadership():
			if is {
				continue
			}
			cancel()
			return <-done
		case err := <-done:
			return err
		}
	}
}

// leadAgain repeats a leadership that could not begin while Raft still calls this server the leader.
func (m *Master) leadAgain(ctx context.Context) error {
	for {
		if err := m.lead(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(tick):
		}
	}
}

// handOver gives the leadership to another server when there is one.
func (m *Master) handOver() {
	if !m.node.IsLeader() || m.cfg.BootstrapExpect == 1 {
		return
	}
	if err := m.node.Raft().LeadershipTransfer().Error(); err != nil {
		m.log.Info("leadership not handed over", "cause", err)
	}
}

// term is Raft's present term.
func (m *Master) term() uint64 { return m.node.Raft().CurrentTerm() }

// read calls f with the state under its read lock.
func (m *Master) read(f func(*state.State)) { m.node.State().Read(f) }

// relays returns all relays.
func (m *Master) relays() (list []*state.Relay) {
	m.read(func(s *state.State) {
		for r := range s.Relays() {
			list = append(list, r)
		}
	})
	return list
}

// otherLeases returns the lease's session and whether its viewer has another live lease there.
func (m *Master) otherLeases(lease *state.Lease) (session *state.Session, others bool) {
	m.read(func(s *state.State) {
		if session = s.Session(lease.Session); session == nil {
			return
		}
		for _, l := range s.LiveLeases(session) {
			others = others || l.Viewer == lease.Viewer
		}
	})
	return session, others
}

// leading returns the leader's part of this server, or the refusal for everybody else.
func (m *Master) leading() (*leader, error) {
	if l := m.leader.Load(); l != nil {
		return l, nil
	}
	return nil, masterapi.Refuse(masterapi.Reason_REASON_NOT_READY, "server %s does not lead", m.cfg.ID).After(retrySoon)
}

// streamLeader is leading for streams, which are not forwarded: the caller is told where to go.
func (m *Master) streamLeader() (*leader, error) {
	if l := m.leader.Load(); l != nil {
		return l, nil
	}
	address, _ := m.node.Leader()
	if address == m.address {
		address = "" // elected, but not ready yet
	}
	return nil, masterapiconnect.ToConnect(&masterapi.NotLeaderError{Address: address})
}

// Ready returns nil when this server can do its part, or why not.
func (m *Master) Ready() error {
	node := m.running()
	if node == nil {
		return errors.New("starting")
	}
	address, _ := node.Leader()
	switch {
	case address == "":
		return errors.New("no leader: a majority of the servers must be reachable")
	case address == m.address && m.leader.Load() == nil:
		return errors.New("elected, catching up")
	}
	var key *state.Key
	node.State().Read(func(s *state.State) { key = s.SigningKey() })
	if _, err := m.keys.signer(key); err != nil {
		return err
	}
	return nil
}

// keepRegistered keeps this server in the catalog.
func (m *Master) keepRegistered(ctx context.Context) error {
	if m.cfg.Catalog == nil {
		return nil
	}
	url := m.cfg.CheckURL
	if url == "" {
		url = "https://" + m.address + "/readyz"
	}
	meta := map[string]string{catalog.MetaID: m.cfg.ID, "version": m.cfg.Version, catalog.MetaOps: m.opsAddress()}
	return m.cfg.Catalog.Keep(ctx, catalog.Registration{
		Name: catalog.ServiceMaster, ID: m.cfg.ID, Address: m.address, CheckURL: url, TLSSkipVerify: true, // the certificate names a role, not an address
		Meta: func() map[string]string { return meta },
	})
}
