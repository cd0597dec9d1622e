package session

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/streamwire"
)

// latencyBuckets in seconds: 1, 2, 4, 8, 16, 33, 66, 133, 266 ms.
var latencyBuckets = []float64{.001, .002, .004, .008, .016, .033, .066, .133, .266}

// Metrics are shared by all sessions of a host.
type Metrics struct {
	units            *prometheus.CounterVec
	sent             prometheus.Counter
	bytes            prometheus.Counter
	skipped          *prometheus.CounterVec
	keyframeRequests prometheus.Counter
	badDatagrams     prometheus.Counter
	inputDropped     prometheus.Counter
	proofs           *prometheus.CounterVec
	stages           *prometheus.HistogramVec
	inputToPresent   prometheus.Histogram
}

// NewMetrics registers the metrics of sessions.
func NewMetrics(r prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "wavry", Subsystem: "host", Name: name, Help: help})
		r.MustRegister(c)
		return c
	}
	m := &Metrics{
		units: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "wavry", Subsystem: "host", Name: "units_encoded_total", Help: "Access units from encoders, by kind."}, []string{"kind"}),
		sent:  counter("units_sent_total", "Access units sent to viewers."),
		bytes: counter("unit_bytes_sent_total", "Bytes of access units sent to viewers."),
		skipped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "wavry", Subsystem: "host", Name: "units_skipped_total", Help: "Access units not sent to a viewer, by reason."}, []string{"reason"}),
		keyframeRequests: counter("keyframe_requests_total", "Keyframes asked for by viewers."),
		badDatagrams:     counter("datagrams_refused_total", "Datagrams of viewers that were malformed or not allowed."),
		inputDropped:     counter("input_dropped_total", "Input events that did not reach the compositor."),
		proofs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "wavry", Subsystem: "host", Name: "viewer_proofs_total", Help: "Connections that were to prove a viewer's key, by result."}, []string{"result"}),
		stages: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "wavry", Subsystem: "host", Name: "stage_seconds", Help: "Time a picture spends in each stage.", Buckets: latencyBuckets}, []string{"stage"}),
		inputToPresent: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "wavry", Subsystem: "host", Name: "input_to_present_seconds", Help: "Time from an input event in the browser to the picture that shows it.", Buckets: latencyBuckets}),
	}
	r.MustRegister(m.units, m.skipped, m.proofs, m.stages, m.inputToPresent)
	for _, result := range []string{proofGood, proofNone, proofKey, proofSignature, proofCrowded} {
		m.proofs.WithLabelValues(result)
	}
	return m
}

// Results of a proof. The set is closed.
const (
	proofGood      = "good"
	proofNone      = "none"      // nothing came in time, or something else
	proofKey       = "key"       // with another key than the token names
	proofSignature = "signature" // for another nonce, host, session or lease
	proofCrowded   = "crowded"   // pushed out by newer connections that had proven nothing either
)

func (m *Metrics) observeUnit(u media.AccessUnit) {
	kind := "delta"
	switch {
	case u.Keyframe:
		kind = "keyframe"
	case u.Repeat:
		kind = "repeat"
	}
	m.units.WithLabelValues(kind).Inc()
	if !u.Repeat { // a repeat's capture lies far back on purpose
		m.stages.WithLabelValues("handoff").Observe(u.HandoffTime.Sub(u.CaptureTime).Seconds())
		m.stages.WithLabelValues("encode").Observe(u.EncodeTime.Sub(u.HandoffTime).Seconds())
	}
	m.stages.WithLabelValues("deliver").Observe(media.Now().Sub(u.EncodeTime).Seconds())
}

func (m *Metrics) observeFeedback(f *streamwire.Feedback) {
	for _, u := range f.Units {
		if u.Present == streamwire.NotYet || u.Decode == streamwire.NotYet {
			continue
		}
		m.stages.WithLabelValues("decode").Observe(float64(u.Decode) / 1e6)
		m.stages.WithLabelValues("present").Observe(float64(u.Present) / 1e6)
	}
	for _, in := range f.Inputs {
		m.inputToPresent.Observe(float64(in.Latency) / 1e6)
	}
}
