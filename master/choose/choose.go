// Package choose picks a host and a relay for a session: power of two choices among the eligible, so that load spreads without anybody knowing
// everything exactly. It is pure: telemetry and randomness are arguments.
package choose

import "math/rand/v2"

// probes is how many members of a pool are looked at before all are: with half of them eligible, 16 probes miss once in 65,536 picks.
const probes = 16

// Pick returns the better one of two random eligible members of ids, and false when none is eligible. cost is asked for eligible members only;
// the lower one wins.
func Pick(r *rand.Rand, ids []string, eligible func(string) bool, cost func(string) float64) (string, bool) {
	first, n := "", 0
	for range min(probes, 4*len(ids)) {
		id := ids[r.IntN(len(ids))]
		if !eligible(id) || (n > 0 && id == first) {
			continue
		}
		if n++; n == 2 {
			if cost(id) < cost(first) {
				first = id
			}
			return first, true
		}
		first = id
	}
	if n > 0 {
		return first, true
	}
	return scan(r, ids, eligible)
}

// scan takes the first eligible one from a random place on.
func scan(r *rand.Rand, ids []string, eligible func(string) bool) (string, bool) {
	if len(ids) == 0 {
		return "", false
	}
	start := r.IntN(len(ids))
	for i := range ids {
		if id := ids[(start+i)%len(ids)]; eligible(id) {
			return id, true
		}
	}
	return "", false
}

// Relay is what is known about a relay at the moment of choice.
type Relay struct {
	// Fill is live circuits by capacity, 0-1; Load is its CPU or its bits by capacity, whichever is more, 0-1.
	Fill, Load float64
	// RTT is milliseconds between relay and host; 0: unknown.
	RTT float64
	// Score is the share of its circuits that carried packets both ways, 0-1; 1 when nothing is known.
	Score float64
	// SameRegion says that it is in the viewer's or, when that is unknown, the host's region.
	SameRegion bool
	// Degraded relays are used when nothing better is there.
	Degraded bool
}

// RelayCost is lower for better relays. One unit is about a millisecond of round trip: what a viewer feels.
func RelayCost(r Relay) float64 {
	cost := r.RTT
	if r.RTT == 0 {
		cost = unknownRTT
	}
	cost += 20 * r.Fill
	if r.Load > 0.5 {
		cost += 100 * (r.Load - 0.5) // queues begin to grow long before a core is full
	}
	cost += 200 * (1 - r.Score) // a failed setup costs the viewer a second
	if !r.SameRegion {
		cost += 60
	}
	if r.Degraded {
		cost += 150
	}
	return cost
}

// unknownRTT is assumed for a pair never measured: a neighbouring region.
const unknownRTT = 20

// Host is what is known about a host at the moment of choice.
type Host struct {
	// Fill is used slots by slots; Load is the worst of CPU, GPU and memory, 0-1.
	Fill, Load float64
	SameRegion bool
}

// HostCost is lower for better hosts.
func HostCost(h Host) float64 {
	cost := h.Fill + h.Load
	if !h.SameRegion {
		cost += 10 // any free host of the wished region is better than the best one elsewhere
	}
	return cost
}
