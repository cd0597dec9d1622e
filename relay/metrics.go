package relay

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/wavry/fleet/relay/relaywire"
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("wavry_relay_"+name, help, labels, nil)
}

var (
	descPackets  = desc("packets_total", "Datagrams received and sent.", "direction")
	descBytes    = desc("bytes_total", "UDP payload received and sent.", "direction")
	descDrops    = desc("drops_total", "Datagrams discarded, by reason.", "reason")
	descRejects  = desc("rejects_total", "BINDs refused, by reason.", "reason")
	descCircuits = desc("circuits", "Circuits now.")
	descMax      = desc("circuits_max", "Most circuits the relay takes.")
	descEnded    = desc("circuits_ended_total", "Circuits ended, by reason.", "reason")
	descBinds    = desc("binds_total", "Accepted BINDs that made (new) or prolonged (renewed) a circuit.", "kind")
	descPinned   = desc("viewers_pinned_total", "Viewer legs begun.")
	descFollowed = desc("legs_followed_total", "Legs that moved to a new address.", "side")
	descOffered  = desc("candidates_total", "Addresses that sent what a viewer could send.")
	descCarried  = desc("candidate_packets_total", "Datagrams between candidates and hosts.", "direction")
	descCookies  = desc("cookies_total", "Cookies demanded from sources of BINDs.")
	descQueue    = desc("verify_queue", "BINDs waiting for a verifier.")
	descReady    = desc("ready", "1 when /ready says so.")
	descDraining = desc("draining", "1 while draining.")
	descKeys     = desc("signing_keys", "Public signing keys known.")
	descPolling  = desc("polling_seconds_total", "Time of workers that looked at sockets which had nothing (busy_poll).")
	descPolicyAt = desc("policy_timestamp_seconds", "When the policy in force arrived, Unix time.")
)

// collector reads the counters when Prometheus asks, so that counting costs the data path nothing but an addition.
type collector struct{ r *Relay }

func (collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descPackets, descBytes, descDrops, descRejects, descCircuits, descMax, descEnded, descBinds, descPinned, descFollowed,
		descCookies, descQueue, descReady, descDraining, descKeys, descPolicyAt,
		descPolling, descOffered, descCarried,
	} {
		ch <- d
	}
}

func (c collector) Collect(ch chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64) { ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	r, t, counts := c.r, c.r.totals(), &c.r.engine.counts
	count(descPackets, t.packetsIn, "in")
	count(descPackets, t.packetsOut, "out")
	count(descBytes, t.bytesIn, "in")
	count(descBytes, t.bytesOut, "out")
	for d := dropOffer + 1; d < numDrops; d++ {
		count(descDrops, t.drops[d], d.String())
	}
	for _, reason := range relaywire.Reasons {
		count(descRejects, counts.rejects[reason].Load(), reason.String())
	}
	for e, n := range r.engine.ends() {
		count(descEnded, n, endNames[e])
	}
	count(descBinds, counts.bound.Load(), "new")
	count(descBinds, counts.renewed.Load(), "renewed")
	count(descPinned, counts.viewersPinned.Load())
	count(descFollowed, counts.viewersFollowed.Load(), "viewer")
	count(descFollowed, counts.hostsFollowed.Load(), "host")
	count(descOffered, counts.candidates.Load())
	count(descCarried, counts.offers.Load(), "in")
	count(descCarried, counts.answers.Load(), "out")
	count(descCookies, counts.cookies.Load())
	ch <- prometheus.MustNewConstMetric(descPolling, prometheus.CounterValue, t.polling.Seconds())
	gauge(descCircuits, float64(r.Circuits()))
	gauge(descMax, float64(r.cfg.MaxCircuits))
	gauge(descQueue, float64(len(r.engine.admission.queue)))
	gauge(descReady, truth(r.notReady() == nil))
	gauge(descDraining, truth(r.engine.draining.Load()))
	gauge(descKeys, float64(len(r.engine.policy.Load().keyIDs())))
	gauge(descPolicyAt, float64(r.policyAt.Load()))
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (c *core) ends() [numEnds]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

// results are the circuits that succeeded and failed; of the living ones those count that have succeeded already.
func (c *core) results() (succeeded, failed uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	succeeded = c.succeed
	for _, ci := range c.circuits {
		if ci.answered.Load() {
			succeeded++
		}
	}
	return succeeded, c.failed
}
