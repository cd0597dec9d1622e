package master

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/wavry/fleet/master/catalog"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/masterclient"
)

// joinCluster makes this server part of a cluster: one that was part of one already only starts again; a new one joins an existing cluster, or, when all
// the expected servers are there and none was ever configured, each of them bootstraps the same first configuration.
func (m *Master) joinCluster(ctx context.Context) error {
	configured, err := m.node.Configured()
	if err != nil {
		return fmt.Errorf("look for an earlier configuration: %w", err)
	}
	if m.cfg.alone() {
		return m.beAlone(configured)
	}
	if configured {
		m.log.Info("rejoining the cluster of the data directory")
		return m.tellAddress(ctx)
	}
	said := ""
	ticker := time.NewTicker(joinInterval)
	defer ticker.Stop()
	for {
		done, waiting, err := m.tryJoin(ctx)
		if err != nil || done {
			return err
		}
		if waiting != said {
			said = waiting
			m.log.Info("waiting for a cluster", "cause", waiting)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// beAlone makes this server the whole cluster. One that belongs to others must not go on by itself, and could not: it speaks Raft with nobody.
func (m *Master) beAlone(configured bool) error {
	if !configured {
		return m.node.Bootstrap(map[string]string{m.cfg.ID: m.address})
	}
	servers, err := m.node.Servers()
	if err != nil {
		return err
	}
	if len(servers) > 1 {
		return fmt.Errorf("bootstrap_expect = 1, but data_dir belongs to a cluster of %d servers: say how many they are", len(servers))
	}
	return nil
}

// tellAddress has the cluster know a server that came back under another address: the others would look for it at the old one.
func (m *Master) tellAddress(ctx context.Context) error {
	servers, err := m.node.Servers()
	if err != nil {
		return err
	}
	moved := slices.ContainsFunc(servers, func(s raft.Server) bool { return string(s.ID) == m.cfg.ID && string(s.Address) != m.address })
	ticker := time.NewTicker(joinInterval)
	defer ticker.Stop()
	for moved {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		peers, err := m.findPeers(ctx)
		if err != nil {
			continue // the catalog will be back
		}
		if existing, _ := m.askPeers(ctx, peers); existing != "" {
			moved = m.join(ctx, existing) != nil
		}
	}
	return nil
}

// tryJoin returns done, or what it waits for.
func (m *Master) tryJoin(ctx context.Context) (done bool, waiting string, err error) {
	peers, err := m.findPeers(ctx)
	if err != nil {
		return false, fmt.Sprintf("find the other servers: %v", err), nil
	}
	existing, missing := m.askPeers(ctx, peers)
	if existing != "" {
		return m.askToJoin(ctx, existing)
	}
	if len(peers) < m.cfg.BootstrapExpect {
		return false, fmt.Sprintf("%d of %d servers found", len(peers), m.cfg.BootstrapExpect), nil
	}
	if len(peers) > m.cfg.BootstrapExpect {
		return false, fmt.Sprintf("%d servers found, bootstrap_expect is %d: stop the surplus ones", len(peers), m.cfg.BootstrapExpect), nil
	}
	if len(missing) > 0 {
		return false, fmt.Sprintf("servers %v do not answer", missing), nil
	}
	m.log.Info("bootstrapping", "servers", slices.Sorted(maps.Keys(peers)))
	return true, "", m.node.Bootstrap(peers)
}

// findPeers returns the known servers, this one included.
func (m *Master) findPeers(ctx context.Context) (map[string]string, error) {
	if len(m.cfg.Peers) > 0 {
		return m.cfg.Peers, nil
	}
	peers := map[string]string{m.cfg.ID: m.address}
	if m.cfg.Catalog == nil {
		return peers, nil
	}
	instances, err := m.cfg.Catalog.Instances(ctx, catalog.ServiceMaster)
	if err != nil {
		return nil, err
	}
	for _, i := range instances {
		if i.ID != m.cfg.ID {
			peers[i.ID] = i.Address
		}
	}
	return peers, nil
}

// askPeers returns the address of a server that belongs to a cluster, and the servers that did not answer.
func (m *Master) askPeers(ctx context.Context, peers map[string]string) (existing string, missing []string) {
	for _, id := range slices.Sorted(maps.Keys(peers)) {
		if id == m.cfg.ID {
			continue
		}
		asking, cancel := context.WithTimeout(ctx, 2*time.Second)
		status, err := m.peers.Operator().ServerStatus(masterclient.At(asking, peers[id]), &masterapi.ServerStatusRequest{})
		cancel()
		switch {
		case err != nil:
			missing = append(missing, id)
		case status.GetConfigured() && status.GetLeaderAddress() != "" && status.GetLeaderAddress() != m.address:
			existing = peers[id]
		case status.GetConfigured():
			// It may have bootstrapped a moment ago, with us; Raft will tell.
			existing = peers[id]
		}
	}
	return existing, missing
}

func (m *Master) askToJoin(ctx context.Context, existing string) (done bool, waiting string, err error) {
	if configured, err := m.node.Configured(); err != nil || configured {
		return configured, "", err
	}
	if err := m.join(ctx, existing); err != nil {
		return false, fmt.Sprintf("join through %s: %v", existing, err), nil
	}
	return true, "", nil
}

func (m *Master) join(ctx context.Context, existing string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err := m.peers.Operator().Join(masterclient.At(ctx, existing), &masterapi.JoinRequest{ServerId: m.cfg.ID, Address: m.address})
	if err == nil {
		m.log.Info("joined", "through", existing)
	}
	return err
}
