package nomadmeta

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/nomad/api"
)

// Trouble is a node on which something is wrong, as its host last published.
type Trouble struct {
	Node     string
	Unusable bool // no session can run on it
	Reason   string
	Refused  string // why its order of plugins is not followed; empty: it is
}

// ListTroubles asks Nomad for the nodes with troubles. Nodes without a host are not listed.
func ListTroubles(ctx context.Context, cfg Config) ([]Trouble, error) {
	n, err := New(cfg)
	if err != nil {
		return nil, err
	}
	defer n.client.Close()
	query := (&api.QueryOptions{}).WithContext(ctx)
	nodes, _, err := n.client.Nodes().List(query)
	if err != nil {
		return nil, fmt.Errorf("ask nomad for nodes: %w", err)
	}
	var list []Trouble
	for _, stub := range nodes {
		node, _, err := n.client.Nodes().Info(stub.ID, query)
		if err != nil {
			return nil, fmt.Errorf("ask nomad for node %s: %w", stub.Name, err)
		}
		t := Trouble{Node: node.Name, Unusable: node.Meta[Usable] == "false", Reason: node.Meta[Reason], Refused: node.Meta[Refused]}
		if t.Unusable || t.Refused != "" {
			list = append(list, t)
		}
	}
	return list, nil
}

// Waiting is a job of hosts that Nomad cannot place, and what every node lacks for it.
type Waiting struct{ Job, Reason string }

// hostGroup is the task group with the host runtime in the jobs of hosts.
const hostGroup = "host"

// ListWaiting asks Nomad for the jobs of hosts that wait for a node.
func ListWaiting(ctx context.Context, cfg Config) ([]Waiting, error) {
	n, err := New(cfg)
	if err != nil {
		return nil, err
	}
	defer n.client.Close()
	query := &api.QueryOptions{Filter: `Status == "blocked"`}
	evaluations, _, err := n.client.Evaluations().List(query.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("ask nomad for waiting jobs: %w", err)
	}
	var list []Waiting
	for _, e := range evaluations {
		if m := e.FailedTGAllocs[hostGroup]; m != nil {
			list = append(list, Waiting{e.JobID, lacking(m)})
		}
	}
	return list, nil
}

// lacking says in words why no node was taken.
func lacking(m *api.AllocationMetric) string {
	if m.NodesEvaluated == 0 {
		return "there is no node in its datacenters and node pool"
	}
	var reasons []string
	for _, constraint := range slices.Sorted(maps.Keys(m.ConstraintFiltered)) {
		reasons = append(reasons, fmt.Sprintf("%q fails on %d", constraint, m.ConstraintFiltered[constraint]))
	}
	for _, resource := range slices.Sorted(maps.Keys(m.DimensionExhausted)) {
		reasons = append(reasons, fmt.Sprintf("%s is used up on %d", resource, m.DimensionExhausted[resource]))
	}
	return fmt.Sprintf("of %d nodes %s", m.NodesEvaluated, strings.Join(reasons, ", "))
}
