// Package nomadmeta publishes what works on a node as Nomad's dynamic node metadata, so that jobs can be placed by it, and follows the
// order of plugins that operators set there. It talks to the agent of this node only: what `nomad node meta apply` sets is there at
// once, also while Nomad's servers are away, and needs no blocking query. Nomad's scheduler sees a change after some seconds (5 to 11, measured) and keeps it over restarts of
// the agent; running allocations do not move because of it.
package nomadmeta

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/hashicorp/nomad/api"
)

// Keys of the metadata. A key with a dot reads ${meta.wavry.capture} in a job.
const (
	Capture = "wavry.capture" // first capture plugin that works
	Encoder = "wavry.encoder" // first encoder plugin that works
	Codecs  = "wavry.codecs"  // with commas
	Slots   = "wavry.slots"
	Version = "wavry.version"
	Usable  = "wavry.usable"  // true or false
	Reason  = "wavry.reason"  // why not; absent on a usable node
	Refused = "wavry.refused" // why the order that the operator set is not followed; absent when it is
)

// Keys by which operators set the order of plugins, with commas.
const (
	WantCapture = "wavry_capture"
	WantEncode  = "wavry_encode"
)

// keys lists every key, so that one which no longer holds is removed.
var keys = []string{Capture, Encoder, Codecs, Slots, Version, Usable, Reason, Refused}

const (
	// retryEvery is how soon a refused or lost publication is tried again; the agent may be restarting.
	retryEvery = 5 * time.Second
	// callTimeout bounds one call to the agent on this machine.
	callTimeout = 5 * time.Second
	// followEvery is how often the node's own agent is asked for the operator's order: an answer from its memory.
	followEvery = 2 * time.Second
)

// Config says which agent is told. Nomad's own environment (NOMAD_ADDR, NOMAD_TOKEN, ...) holds for what is empty.
type Config struct {
	Address string // http(s)://host:port, or unix:///path of the task API
	Token   string
	Logger  *slog.Logger
}

// Node is the metadata of this node. A nil Node publishes nothing.
type Node struct {
	client *api.Client
	log    *slog.Logger
	wake   chan struct{} // one pending change is enough

	mu   sync.Mutex // guards the following
	meta map[string]string
}

// New makes the client; nothing is asked yet.
func New(cfg Config) (*Node, error) {
	c := api.DefaultConfig()
	if cfg.Address != "" {
		c.Address = cfg.Address
	}
	if cfg.Token != "" {
		c.SecretID = cfg.Token
	}
	client, err := api.NewClient(c)
	if err != nil {
		return nil, fmt.Errorf("nomad_addr = %q: %w", c.Address, err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Node{client: client, log: cfg.Logger.With("component", "nomad"), wake: make(chan struct{}, 1)}, nil
}

// Set replaces what is published. It does not block; Run publishes.
func (n *Node) Set(meta map[string]string) {
	if n == nil {
		return
	}
	n.mu.Lock()
	changed := !maps.Equal(n.meta, meta)
	n.meta = maps.Clone(meta)
	n.mu.Unlock()
	if !changed {
		return
	}
	select {
	case n.wake <- struct{}{}:
	default: // Run will look anyway
	}
}

// Run publishes each change until ctx ends, again and again while the agent refuses or is away. What was published stays: a host
// that restarts works as it did.
func (n *Node) Run(ctx context.Context) {
	if n == nil {
		return
	}
	retry := time.NewTimer(retryEvery)
	retry.Stop()
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.wake:
		case <-retry.C:
		}
		if err := n.apply(ctx); err != nil && ctx.Err() == nil {
			n.log.Warn("node metadata not published; placement by it is stale", "err", err)
			retry.Reset(retryEvery)
		}
	}
}

func (n *Node) apply(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	n.mu.Lock()
	request := &api.NodeMetaApplyRequest{Meta: wire(n.meta)}
	n.mu.Unlock()
	_, err := n.client.Nodes().Meta().Apply(request, (&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return fmt.Errorf("apply node metadata: %w", err)
	}
	n.log.Info("node metadata published", "usable", *request.Meta[Usable])
	return nil
}

// wire maps every key to its value, or to nil, which removes it.
func wire(meta map[string]string) map[string]*string {
	out := make(map[string]*string, len(keys))
	for _, k := range keys {
		out[k] = nil
		if v, ok := meta[k]; ok {
			out[k] = &v
		}
	}
	return out
}
