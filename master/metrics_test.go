package master

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// TestMetricNames pins the names, which dashboards and alerts use.
func TestMetricNames(t *testing.T) {
	t.Parallel()
	r := prometheus.NewRegistry()
	m := newMetrics(r)
	for _, v := range []*prometheus.CounterVec{m.admissions, m.paths, m.ended, m.moves, m.calls} {
		v.WithLabelValues("x")
	}
	for _, v := range []*prometheus.GaugeVec{m.relays, m.hosts, m.links, m.stale} {
		v.WithLabelValues("x")
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	for _, n := range []string{
		"leader", "ready", "admissions_total", "admit_seconds", "session_setup_seconds", "session_paths_total", "leases_ended_total", "moves_total", "leases",
		"relays", "hosts", "links", "signing_key_age_seconds", "signing_key_rotation_seconds", "health_stale", "calls_total",
	} {
		want["wavry_master_"+n] = true
	}
	for _, f := range families {
		if !want[f.GetName()] {
			t.Errorf("unexpected metric %s", f.GetName())
		}
		delete(want, f.GetName())
	}
	for n := range want {
		t.Errorf("metric %s is gone", n)
	}
}
