package pipeline

import "github.com/prometheus/client_golang/prometheus"

// Metrics of all pipelines of a process.
type Metrics struct {
	restarts  *prometheus.CounterVec
	recovery  prometheus.Histogram
	withheld  prometheus.Counter
	gaps      prometheus.Counter
	handoff   prometheus.Histogram
	encode    prometheus.Histogram
	crossing  prometheus.Histogram
	callFails *prometheus.CounterVec
}

// stageBuckets are milliseconds around one frame at 60 fps.
var stageBuckets = []float64{.25, .5, 1, 2, 4, 8, 16, 33, 66, 133}

// NewMetrics registers the metrics with reg; nil: they are counted and not shown.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		restarts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wavry_pipeline_restarts_total", Help: "Plugin runs that were replaced, by role and cause."}, []string{"role", "cause"}),
		recovery: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "wavry_pipeline_recovery_seconds", Help: "From the detection of a failure to the next picture.",
			Buckets: []float64{.1, .25, .5, 1, 1.5, 2, 4, 8, 16}}),
		withheld: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "wavry_pipeline_units_withheld_total", Help: "Access units not passed on because no keyframe came before."}),
		gaps: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "wavry_pipeline_sequence_gaps_total", Help: "Access units that an encoder plugin lost."}),
		handoff:  stage("handoff", "From capture to the encoder process."),
		encode:   stage("encode", "From the encoder process taking a picture to its access unit."),
		crossing: stage("crossing", "From the end of encoding to the access unit in the host runtime."),
		callFails: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wavry_pipeline_call_failures_total", Help: "Control calls on plugins that failed, by role."}, []string{"role"}),
	}
	if reg != nil {
		reg.MustRegister(m.restarts, m.recovery, m.withheld, m.gaps, m.handoff, m.encode, m.crossing, m.callFails)
	}
	return m
}

func stage(name, help string) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{Name: "wavry_pipeline_" + name + "_ms", Help: help, Buckets: stageBuckets})
}
