package gateway

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/wavry/fleet/master/masterapi"
)

const (
	pathHealth  = "/healthz"
	pathReady   = "/readyz"
	pathMetrics = "/metrics"
)

func isHealth(path string) bool { return path == pathHealth || path == pathReady }

func (g *Gateway) routeHealth(mux *http.ServeMux) {
	mux.HandleFunc("GET "+pathHealth, func(w http.ResponseWriter, r *http.Request) {
		g.answer(w, r, map[string]string{"status": "alive"}, nil)
	})
	mux.HandleFunc("GET "+pathReady, g.serveReady)
}

// opsHandler serves operators: health and metrics.
func (g *Gateway) opsHandler() http.Handler {
	mux := http.NewServeMux()
	g.routeHealth(mux)
	mux.Handle("GET "+pathMetrics, promhttp.HandlerFor(g.registry, promhttp.HandlerOpts{}))
	return mux
}

// readiness is the answer of /readyz.
type readiness struct {
	Ready  bool   `json:"ready"`
	Store  string `json:"store"`
	Master string `json:"master"`
	Reason string `json:"reason,omitempty"`
}

// serveReady answers 503 when people cannot sign in here. An absent master does not make a gateway unready: people can still
// sign in, resume and see why there is no desktop, and every other gateway would be without the master as well.
func (g *Gateway) serveReady(w http.ResponseWriter, r *http.Request) {
	status := readiness{Ready: true, Store: "up", Master: "away"}
	if g.masterUp.Load() {
		status.Master = "up"
	}
	if err := g.pingStore(r.Context()); err != nil {
		status.Ready, status.Store, status.Reason = false, "away", "the store does not answer"
	}
	if g.draining.Load() {
		status.Ready, status.Reason = false, "the gateway is stopping"
	}
	if !status.Ready {
		w.Header().Set("Retry-After", "1")
	}
	g.answerStatus(w, r, status)
}

func (g *Gateway) answerStatus(w http.ResponseWriter, r *http.Request, status readiness) {
	if status.Ready {
		g.answer(w, r, status, nil)
		return
	}
	g.answer(&forcedStatus{w, http.StatusServiceUnavailable}, r, status, nil)
}

// forcedStatus answers a value with another status than 200.
type forcedStatus struct {
	http.ResponseWriter
	status int
}

func (w *forcedStatus) WriteHeader(int) { w.ResponseWriter.WriteHeader(w.status) }

func (g *Gateway) pingStore(ctx context.Context) error {
	o := g.open.Load()
	if o == nil {
		return ErrNotRunning
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return o.store.Ping(ctx)
}

// probeRegularly keeps the gauges of store and master and logs when they change.
func (g *Gateway) probeRegularly(ctx context.Context) error {
	return every(ctx, probeEvery, true, func() {
		setUp(g.metrics.storeUp, g.pingStore(ctx) == nil)
		probe, cancel := context.WithTimeout(ctx, probeTimeout)
		defer cancel()
		_, err := g.cfg.Master.Keys().GetKeySet(probe, &masterapi.GetKeySetRequest{})
		if ctx.Err() != nil {
			return
		}
		up := err == nil
		setUp(g.metrics.masterUp, up)
		if was := g.masterUp.Swap(up); was != up {
			g.log.Info("master state", "from", upWord(was), "to", upWord(up), "cause", err)
			if up {
				g.repeatBans(ctx)
			}
		}
	})
}

func (g *Gateway) repeatBans(ctx context.Context) {
	if err := g.tellBans(ctx); err != nil && ctx.Err() == nil {
		g.log.Warn("the master was not told of all bans", "cause", err)
	}
}

func upWord(up bool) string {
	if up {
		return "up"
	}
	return "away"
}

// every calls fn each period until ctx ends, at once as well when first is set. It returns nil.
func every(ctx context.Context, period time.Duration, first bool, fn func()) error {
	if first {
		fn()
	}
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			fn()
		}
	}
}
