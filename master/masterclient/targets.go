package masterclient

import (
	"slices"
	"sync"
)

// targets remembers the servers and which one leads. The leader is tried first, then the others in turn.
type targets struct {
	mu     sync.Mutex // guards the following
	known  []string
	leader string
	next   int
}

func newTargets(addresses []string) *targets {
	return &targets{known: slices.Clone(addresses)}
}

// pick returns the address to try now, empty when none is known.
func (t *targets) pick() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.leader != "" {
		return t.leader
	}
	if len(t.known) == 0 {
		return ""
	}
	return t.known[t.next%len(t.known)]
}

// failed says that address did not work, so that the next pick is another one.
func (t *targets) failed(address string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.leader == address {
		t.leader = ""
	}
	if len(t.known) > 0 && t.known[t.next%len(t.known)] == address {
		t.next++
	}
}

func (t *targets) setLeader(address string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.leader = address
	t.addLocked(address)
}

// add takes further addresses in, up to a bound that no sane cluster reaches.
func (t *targets) add(addresses ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range addresses {
		t.addLocked(a)
	}
}

func (t *targets) addLocked(address string) {
	const most = 64
	if !slices.Contains(t.known, address) && len(t.known) < most {
		t.known = append(t.known, address)
	}
}

// size is the number of known addresses.
func (t *targets) size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.known)
}
