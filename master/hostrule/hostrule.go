// Package hostrule says what a host of a name may offer: which pool, how many slots, in which region. Who may use the name is told by identities (package
// identity); what the name is worth is written here by operators, never said by the host. It decides only: the state keeps the verdict.
package hostrule

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/wavry/fleet/master/identity"
)

// Offer is what a host says that it is.
type Offer struct {
	Host, Pool, Region string
	Slots              uint32
}

// Rules are in no order: an offer is allowed if any of them allows it. The zero value allows nothing.
type Rules []rule

type rule struct {
	text   string
	host   []string // segments
	pools  []string
	slots  uint32
	region string // empty: any
}

// Default fits the jobs of jobs/: job wavry-host-NAME serves pool NAME, one person per node.
func Default() []string { return []string{"wavry-host-{name}@*={name}/1"} }

const capture = "{name}"

// Parse reads rules of the form HOST=POOL[|POOL...]/SLOTS[/REGION] and reports every problem. HOST is an id, segment by segment as in identities; a
// segment is a name, * for any one, or a name with one {name}, which stands for one or more of its letters and may be used in POOL. POOL may be *.
func Parse(texts []string) (Rules, error) {
	var rules Rules
	var problems []error
	for _, text := range texts {
		r, err := parse(text)
		if err != nil {
			problems = append(problems, fmt.Errorf("host_rules: %q must be HOST=POOL[|POOL...]/SLOTS[/REGION]: %w", text, err))
			continue
		}
		rules = append(rules, r)
	}
	return rules, errors.Join(problems...)
}

func parse(text string) (rule, error) {
	host, rest, ok := strings.Cut(text, "=")
	parts := strings.Split(rest, "/")
	if !ok || len(parts) < 2 || len(parts) > 3 {
		return rule{}, errors.New("parts are missing, or too many")
	}
	slots, err := strconv.ParseUint(parts[1], 10, 32)
	if err != nil || slots == 0 {
		return rule{}, fmt.Errorf("%q slots: must be a whole number, 1 or more", parts[1])
	}
	r := rule{text: text, host: strings.Split(host, identity.Separator), pools: strings.Split(parts[0], "|"), slots: uint32(slots)}
	if len(parts) == 3 {
		if r.region = parts[2]; r.region == "" {
			return rule{}, errors.New("the region is empty")
		}
	}
	captures := strings.Count(host, capture)
	for _, segment := range r.host {
		if plain := strings.Replace(segment, capture, "", 1); segment == "" || strings.ContainsAny(plain, "{}") || segment != "*" && strings.Contains(segment, "*") {
			return rule{}, fmt.Errorf("%q: a segment is a name, *, or a name with one %s", host, capture)
		}
	}
	if captures > 1 {
		return rule{}, fmt.Errorf("%q: one %s at most", host, capture)
	}
	for _, pool := range r.pools {
		plain := pool
		if captures == 1 {
			plain = strings.ReplaceAll(pool, capture, "")
		}
		if pool == "" || strings.ContainsAny(plain, "{}") || pool != "*" && strings.Contains(pool, "*") {
			return rule{}, fmt.Errorf("pool %q: must be a name, or * for every pool, or hold a %s that HOST has", pool, capture)
		}
	}
	return r, nil
}

// Allow returns the rule that allows the offer, empty when none does.
func (r Rules) Allow(o Offer) string {
	for _, rule := range r {
		if rule.allows(o) {
			return rule.text
		}
	}
	return ""
}

func (r rule) allows(o Offer) bool {
	name, ok := r.names(o.Host)
	if !ok || o.Slots > r.slots || r.region != "" && r.region != o.Region {
		return false
	}
	for _, pool := range r.pools {
		if pool == "*" || strings.ReplaceAll(pool, capture, name) == o.Pool {
			return true
		}
	}
	return false
}

// names reports whether the rule is about the host, and what its {name} is.
func (r rule) names(host string) (name string, ok bool) {
	segments := strings.Split(host, identity.Separator)
	if len(segments) != len(r.host) {
		return "", false
	}
	for i, pattern := range r.host {
		segment := segments[i]
		before, after, captures := strings.Cut(pattern, capture)
		switch {
		case segment == "":
			return "", false
		case pattern == "*" || pattern == segment && !captures:
		case captures && len(segment) > len(before)+len(after) && strings.HasPrefix(segment, before) && strings.HasSuffix(segment, after):
			name = segment[len(before) : len(segment)-len(after)]
		default:
			return "", false
		}
	}
	return name, true
}
