package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Handler serves /ready (503 while no new circuit should come, with the reason), /healthz (200 while the process lives) and
// /metrics.
func (r *Relay) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", r.serveReady)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	private := prometheus.NewRegistry()
	private.MustRegister(collector{r})
	gatherers := prometheus.Gatherers{private}
	if g, ok := r.cfg.Registry.(prometheus.Gatherer); ok {
		gatherers = prometheus.Gatherers{g}
	}
	mux.Handle("GET /metrics", promhttp.HandlerFor(gatherers, promhttp.HandlerOpts{}))
	return mux
}

// readiness is the body of /ready.
type readiness struct {
	Ready       bool     `json:"ready"`
	Cause       string   `json:"cause,omitempty"`
	ID          string   `json:"id"`
	Region      string   `json:"region,omitempty"`
	Circuits    int      `json:"circuits"`
	MaxCircuits int      `json:"max_circuits"`
	Draining    bool     `json:"draining"`
	Keys        []string `json:"keys"`
}

func (r *Relay) serveReady(w http.ResponseWriter, _ *http.Request) {
	why := r.notReady()
	body := readiness{
		Ready: why == nil, ID: r.cfg.ID, Region: r.cfg.Region, Circuits: r.Circuits(), MaxCircuits: r.cfg.MaxCircuits,
		Draining: r.engine.draining.Load(), Keys: r.engine.policy.Load().keyIDs(),
	}
	w.Header().Set("Content-Type", "application/json")
	if why != nil {
		body.Cause = why.Error()
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	if err := json.NewEncoder(w).Encode(body); err != nil {
		r.log.Debug("answer /ready", "err", err)
	}
}

func (r *Relay) serveHTTP(ctx context.Context) error {
	if r.cfg.HTTPAddr == "" {
		return nil
	}
	listener, err := r.listenHTTP(ctx)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: r.Handler(), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve http: %w", err)
	}
	return nil
}

// listenHTTP waits a moment for a predecessor to let go of the port.
func (r *Relay) listenHTTP(ctx context.Context) (net.Listener, error) {
	deadline := time.Now().Add(handoverTimeout)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		l, err := net.Listen("tcp", r.cfg.HTTPAddr)
		if err == nil {
			return l, nil
		}
		if r.cfg.HandoverPath == "" || time.Now().After(deadline) {
			return nil, fmt.Errorf("listen for http: %w", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
