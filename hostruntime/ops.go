package hostruntime

import (
	"encoding/json"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Ops is what operators and Consul ask a host: /healthz lives, /readyz takes sessions (503 and a sentence when not), /metrics,
// and /v1/fingerprint with what works on this node and why the rest does not. fingerprint may return nil: not known yet.
func Ops(ready func() error, fingerprint func() any, registry *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /v1/fingerprint", func(w http.ResponseWriter, _ *http.Request) {
		result := fingerprint()
		if result == nil {
			http.Error(w, "the fingerprint is still being taken", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(result) // a client that left needs no answer
	})
	return mux
}
