package nomadmeta

import (
	"context"
	"fmt"

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
