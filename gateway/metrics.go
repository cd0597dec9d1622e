package gateway

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/master/masterapi"
)

// stageBuckets are the fleet's latency buckets, in seconds, and slower ones for what a person waits for.
var stageBuckets = []float64{.001, .002, .004, .008, .016, .033, .066, .133, .25, .5, 1, 2, 4, 8, 16}

// metrics are the gateway's numbers. Labels come from closed sets only.
//
// The ratios that DESIGN.md names are rules over these, in jobs/slo.yml.
type metrics struct {
	setups     *prometheus.CounterVec // result: granted or a refusal's reason
	setupTime  prometheus.Histogram   // from the request to the grant
	reports    *prometheus.CounterVec // outcome: connected, failed, lost
	connected  prometheus.Histogram   // from the click to the first picture, as viewers report
	paths      *prometheus.CounterVec // path: direct, relay
	ended      *prometheus.CounterVec // reason
	signIns    *prometheus.CounterVec // method, result
	refusals   *prometheus.CounterVec // reason, on HTTP and WebSocket
	requests   *prometheus.CounterVec // status class
	oddProxies prometheus.Counter
	sockets    prometheus.Gauge
	socketEnds *prometheus.CounterVec // cause
	masterUp   prometheus.Gauge
	storeUp    prometheus.Gauge
	backups    *prometheus.CounterVec // result
	lastBackup prometheus.Gauge
	dropped    *prometheus.CounterVec // what, of bounded queues
}

func newMetrics(r prometheus.Registerer) *metrics {
	const ns = "wavry_gateway"
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Name: name, Help: help}, labels)
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: ns, Name: name, Help: help})
	}
	histogram := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: ns, Name: name, Help: help, Buckets: stageBuckets})
	}
	m := &metrics{
		setups:    counter("session_setups_total", "Requests for a desktop by result: granted, or the reason of the refusal.", "result"),
		setupTime: histogram("session_setup_grant_seconds", "Time from a request for a desktop to its grant."),
		reports:   counter("session_reports_total", "Viewers' reports of how reaching the host went.", "outcome"),
		connected: histogram("session_setup_seconds", "Time from a person's click to the first decoded picture, as viewers report it."),
		paths:     counter("session_paths_total", "Paths that viewers came to use, as hosts report them.", "path"),
		ended:     counter("sessions_ended_total", "Ended sessions that had a viewer here, by reason.", "reason"),
		signIns:   counter("sign_ins_total", "Sign-ins by method and result.", "method", "result"),
		refusals:  counter("refusals_total", "Refusals by reason, on HTTP and on the WebSocket.", "reason"),
		requests:  counter("http_requests_total", "HTTP requests by class of status.", "class"),
		oddProxies: prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Name: "forwarded_not_understood_total",
			Help: "Requests from a trusted proxy that do not say in trusted_proxy_header which address they come from."}),
		sockets:    gauge("signaling_sockets", "Open signaling WebSockets."),
		socketEnds: counter("signaling_sockets_ended_total", "Ended signaling WebSockets by cause.", "cause"),
		masterUp:   gauge("master_up", "1 when the master answered the last probe."),
		storeUp:    gauge("store_up", "1 when the store answered the last probe."),
		backups:    counter("backups_total", "Scheduled backups by result.", "result"),
		lastBackup: gauge("backup_last_success_timestamp_seconds", "Unix time of the last good scheduled backup."),
		dropped:    counter("dropped_total", "Events that found a bounded queue full.", "queue"),
	}
	r.MustRegister(m.setups, m.setupTime, m.reports, m.connected, m.paths, m.ended, m.signIns, m.refusals, m.requests, m.oddProxies, m.sockets,
		m.socketEnds, m.masterUp, m.storeUp, m.backups, m.lastBackup, m.dropped)
	// A ratio needs its counters from the first event on, not from the second.
	for _, outcome := range []string{signalapi.OutcomeConnected, signalapi.OutcomeFailed, signalapi.OutcomeLost} {
		m.reports.WithLabelValues(outcome)
	}
	for _, path := range []string{signalapi.CandidateDirect, signalapi.CandidateRelay} {
		m.paths.WithLabelValues(path)
	}
	m.setups.WithLabelValues("granted")
	for n := range masterapi.Reason_name {
		reason := masterapi.Reason(n)
		if reason < masterapi.Reason_REASON_USER_ENDED {
			m.setups.WithLabelValues(reason.Slug())
		} else {
			m.ended.WithLabelValues(reason.Slug())
		}
	}
	return m
}

func (m *metrics) granted(d time.Duration) {
	m.setups.WithLabelValues("granted").Inc()
	m.setupTime.Observe(d.Seconds())
}

func setUp(g prometheus.Gauge, up bool) {
	if up {
		g.Set(1)
	} else {
		g.Set(0)
	}
}
