package nomadmeta

import (
	"context"
	"fmt"

	"github.com/hashicorp/nomad/api"
)

// Unusable is a node on which no session can run, as its host last published.
type Unusable struct{ Node, Reason string }

// ListUnusable asks Nomad for the nodes that took themselves out, with their reasons. Nodes without a host are not listed.
func ListUnusable(ctx context.Context, cfg Config) ([]Unusable, error) {
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
	var list []Unusable
	for _, stub := range nodes {
		node, _, err := n.client.Nodes().Info(stub.ID, query)
		if err != nil {
			return nil, fmt.Errorf("ask nomad for node %s: %w", stub.Name, err)
		}
		if node.Meta[Usable] == "false" {
			list = append(list, Unusable{Node: node.Name, Reason: node.Meta[Reason]})
		}
	}
	return list, nil
}
