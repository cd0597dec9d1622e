package master

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// listenOps opens the port for operators' machines, nil when there is none. It is apart from the API's, so that who reaches the API does not thereby read
// how the fleet is doing: where it listens says who may.
func (m *Master) listenOps(ctx context.Context) (net.Listener, error) {
	if m.cfg.OpsAddr == "" {
		return nil, nil
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", m.cfg.OpsAddr)
	if err != nil {
		return nil, fmt.Errorf("listen on ops_addr: %w", err)
	}
	return listener, nil
}

func closeOps(listener net.Listener) error {
	if listener == nil {
		return nil
	}
	return listener.Close()
}

// serveOps serves /metrics, /readyz and /healthz until ctx ends. It closes the listener.
func (m *Master) serveOps(ctx context.Context, listener net.Listener) error {
	if listener == nil {
		return nil
	}
	mux := http.NewServeMux()
	m.handleHealth(mux)
	if m.cfg.Registry != nil {
		mux.Handle("GET /metrics", promhttp.HandlerFor(m.cfg.Registry, promhttp.HandlerOpts{}))
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() }) // a scrape that is cut is tried again
	defer stop()
	if err := server.Serve(listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve ops_addr: %w", err)
	}
	return nil
}

// handleHealth adds what load balancers and checks ask.
func (m *Master) handleHealth(mux *http.ServeMux) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("GET /readyz", m.serveReady)
}

// opsAddress is where others find the operators' port: an unspecified address is the advertised one's.
func (m *Master) opsAddress() string {
	host, port, err := net.SplitHostPort(m.cfg.OpsAddr)
	if err != nil {
		return ""
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host, _, _ = net.SplitHostPort(m.address) // it was checked
	}
	return net.JoinHostPort(host, port)
}
