package master

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/state"
)

// metrics of one server. Labels come from closed sets only.
type metrics struct {
	leader     prometheus.Gauge
	ready      prometheus.Gauge
	admissions *prometheus.CounterVec
	admitTime  prometheus.Histogram
	setup      prometheus.Histogram
	paths      *prometheus.CounterVec
	ended      *prometheus.CounterVec
	moves      *prometheus.CounterVec
	leases     prometheus.Gauge
	relays     *prometheus.GaugeVec
	hosts      *prometheus.GaugeVec
	links      *prometheus.GaugeVec
	keyAge     prometheus.Gauge
	keyNext    prometheus.Gauge
	stale      *prometheus.GaugeVec
	calls      *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	name := func(n string) string { return "wavry_master_" + n }
	gauge := func(n, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name(n), Help: help})
	}
	gauges := func(n, help, label string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name(n), Help: help}, []string{label})
	}
	counters := func(n, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name(n), Help: help}, []string{label})
	}
	buckets := []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10}
	histogram := func(n, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name(n), Help: help, Buckets: buckets})
	}
	m := &metrics{
		leader:     gauge("leader", "1 while this server leads."),
		ready:      gauge("ready", "1 while this server is ready."),
		admissions: counters("admissions_total", "Admissions by result: granted or the reason of the refusal.", "result"),
		admitTime:  histogram("admit_seconds", "Time from request to grant or refusal, host's preparation included."),
		setup:      histogram("session_setup_seconds", "Time from a viewer's first packet to its first frame, as hosts report it."),
		paths:      counters("session_paths_total", "Viewers that became active, by path: direct or relay.", "path"),
		ended:      counters("leases_ended_total", "Ended leases by reason.", "reason"),
		moves:      counters("moves_total", "Viewers given another path, by reason.", "reason"),
		leases:     gauge("leases", "Live leases."),
		relays:     gauges("relays", "Relays by state.", "state"),
		hosts:      gauges("hosts", "Hosts by state.", "state"),
		links:      gauges("links", "Machines linked to this leader, by kind: host or relay.", "kind"),
		keyAge:     gauge("signing_key_age_seconds", "Age of the key that signs leases now."),
		keyNext:    gauge("signing_key_rotation_seconds", "Time until the next scheduled rotation; negative when it is late."),
		stale:      gauges("health_stale", "1 while the catalog cannot be asked about a service.", "service"),
		calls:      counters("calls_total", "API calls by result code.", "code"),
	}
	if r != nil {
		r.MustRegister(m.leader, m.ready, m.admissions, m.admitTime, m.setup, m.paths, m.ended, m.moves, m.leases, m.relays, m.hosts, m.links,
			m.keyAge, m.keyNext, m.stale, m.calls)
	}
	return m
}

// gauge sets what the leader counts; called once a second.
func (m *Master) gauge() {
	relays, hosts := map[string]int{}, map[string]int{}
	now := m.cfg.Now()
	m.read(func(s *state.State) {
		m.metrics.leases.Set(float64(s.LiveCount()))
		for r := range s.Relays() {
			relays[state.RelayWord(r.State)]++
		}
		for h := range s.Hosts() {
			hosts[state.HostWord(h.State)]++
		}
		if k := s.SigningKey(); k != nil {
			m.metrics.keyAge.Set(now.Sub(k.SigningSince.Time()).Seconds())
			m.metrics.keyNext.Set((m.cfg.KeyRotation - now.Sub(k.SigningSince.Time())).Seconds())
		}
	})
	for n := range masterapi.RelayState_name {
		if n > 0 {
			word := state.RelayWord(masterapi.RelayState(n))
			m.metrics.relays.WithLabelValues(word).Set(float64(relays[word]))
		}
	}
	for n := range masterapi.HostStateWord_name {
		if n > 0 {
			word := state.HostWord(masterapi.HostStateWord(n))
			m.metrics.hosts.WithLabelValues(word).Set(float64(hosts[word]))
		}
	}
	if l := m.leader.Load(); l != nil {
		l.gaugeLinks()
	}
}

func (l *leader) gaugeLinks() {
	l.m.metrics.links.WithLabelValues("host").Set(float64(len(l.hostLinks())))
	l.m.metrics.links.WithLabelValues("relay").Set(float64(len(l.relayLinks())))
	l.fleet.mu.RLock()
	defer l.fleet.mu.RUnlock()
	for service, stale := range l.fleet.stale {
		value := 0.0
		if stale {
			value = 1
		}
		l.m.metrics.stale.WithLabelValues(service).Set(value)
	}
}
