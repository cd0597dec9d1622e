package choose

import "time"

// Policy says when a relay on probation has proven itself and when an active one is degraded.
type Policy struct {
	// Share is the part of new circuits that relays on probation get together while others are there, 0-1.
	Share float64
	// Successes is how many circuits must have worked since probation began.
	Successes uint64
	// MinRatio is the least part of circuits that must work.
	MinRatio float64
	// MinProbation is the least time in probation; successes alone could all come from one minute.
	MinProbation time.Duration
}

// DefaultPolicy is what the master uses unless configured otherwise.
func DefaultPolicy() Policy {
	return Policy{Share: 0.1, Successes: 20, MinRatio: 0.9, MinProbation: time.Minute}
}

// Record is what a relay's circuits did since its state began.
type Record struct {
	Succeeded, Failed uint64
	Overloaded        bool
}

// Verdict is what should become of a relay.
type Verdict int

// The verdicts.
const (
	Stay Verdict = iota
	Promote
	Degrade
	Recover
)

// minSample is the least number of circuits that says anything about a ratio.
const minSample = 10

// Judge decides about a relay in probation, active or degraded (the other two are told by their names) that has been so for age.
func Judge(p Policy, state string, age time.Duration, r Record) Verdict {
	total := r.Succeeded + r.Failed
	bad := r.Overloaded || (total >= minSample && float64(r.Succeeded) < p.MinRatio*float64(total))
	switch {
	case state == "probation" && !bad && r.Succeeded >= p.Successes && age >= p.MinProbation:
		return Promote
	case state == "active" && bad:
		return Degrade
	case state == "degraded" && !r.Overloaded && age >= p.MinProbation && (total == 0 || float64(r.Succeeded) >= p.MinRatio*float64(total)):
		return Recover
	default:
		return Stay
	}
}
