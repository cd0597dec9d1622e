package pipeline

import (
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// TestMetricNames pins the names, which dashboards and alerts use.
func TestMetricNames(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := NewMetrics(reg)
	m.restarts.WithLabelValues("capture", string(causeCrash)).Inc()
	m.callFails.WithLabelValues("capture").Inc()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range families {
		got = append(got, f.GetName())
	}
	want := []string{
		"wavry_pipeline_call_failures_total", "wavry_pipeline_crossing_ms", "wavry_pipeline_encode_ms", "wavry_pipeline_handoff_ms",
		"wavry_pipeline_recovery_seconds", "wavry_pipeline_restarts_total", "wavry_pipeline_sequence_gaps_total", "wavry_pipeline_units_withheld_total",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
