package nomadmeta

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/nomad/api"
)

// Preference is the order of plugins that an operator set for this node, as it was written; empty: none.
type Preference struct{ Capture, Encode string }

// Follow tells the node's preference when the agent first answers, and again with each change, until ctx ends. While the agent is
// away, what it said last holds. A nil Node has none to tell.
func (n *Node) Follow(ctx context.Context, changed func(Preference)) {
	if n == nil {
		return
	}
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	var last *Preference
	away := false
	for {
		p, err := n.preference(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if !away {
				n.log.Warn("order of plugins not read; the last one holds", "err", err)
			}
		case last == nil || *last != p:
			last = &p
			changed(p)
		}
		away = err != nil
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (n *Node) preference(ctx context.Context) (Preference, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := n.client.Nodes().Meta().Read("", (&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return Preference{}, fmt.Errorf("read node metadata: %w", err)
	}
	return Preference{Capture: answer.Meta[WantCapture], Encode: answer.Meta[WantEncode]}, nil
}
