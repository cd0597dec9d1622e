package master

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/wavry/fleet/master/catalog"
	"github.com/wavry/fleet/master/choose"
	"github.com/wavry/fleet/master/health"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/state"
)

// fleet is the leader's memory of its machines: links, health and load. Nothing of it is in Raft; a new leader starts empty and learns from hellos.
type fleet struct {
	elected time.Time
	now     func() time.Time

	mu       sync.RWMutex // guards the following
	hosts    map[string]*liveHost
	speaking map[string]*hostLink // by the instance of a job that holds the link
	relays   map[string]*liveRelay
	pools    map[string][]string // host ids by pool
	members  []string            // relay ids
	stale    map[string]bool     // by catalog service: it could not be asked
	promises int                 // slots promised on all hosts
	changed  chan struct{}       // closed and replaced when a machine may have become eligible
}

type liveHost struct {
	health  health.Machine
	link    *hostLink
	load    *masterapi.HostLoad
	node    string // in Consul
	pool    string // the pool that lists it, when pooled
	pooled  bool
	pending int // slots promised to admissions that are not applied yet
}

type liveRelay struct {
	health  health.Machine
	link    *relayLink
	load    *masterapi.RelayLoad
	node    string
	pending int
	boot    string
	// base are the totals when the present state began; since is that state's begin.
	baseOK, baseFailed uint64
	since              state.Millis
	heard              time.Time // of the last report
	lost               time.Time // since when it is not eligible by health; zero: it is
}

func newFleet(elected time.Time, now func() time.Time) *fleet {
	return &fleet{
		elected: elected, now: now, hosts: map[string]*liveHost{}, speaking: map[string]*hostLink{}, relays: map[string]*liveRelay{}, pools: map[string][]string{},
		stale: map[string]bool{}, changed: make(chan struct{}),
	}
}

// load takes the machines of the state in, at an election and after a restore.
func (f *fleet) load(s *state.State) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pools, f.members = map[string][]string{}, nil
	for h := range s.Hosts() {
		live := f.hostLocked(h.ID)
		live.pooled = false
		f.poolLocked(live, h)
	}
	for r := range s.Relays() {
		f.members = append(f.members, r.ID)
		f.relayLocked(r.ID)
	}
}

func (f *fleet) hostLocked(id string) *liveHost {
	h := f.hosts[id]
	if h == nil {
		h = &liveHost{}
		f.hosts[id] = h
	}
	return h
}

// poolLocked lists the host in its pool, once.
func (f *fleet) poolLocked(live *liveHost, h *state.Host) {
	if !live.pooled {
		f.pools[h.Pool] = append(f.pools[h.Pool], h.ID)
		live.pool, live.pooled = h.Pool, true
	}
}

func (f *fleet) relayLocked(id string) *liveRelay {
	r := f.relays[id]
	if r == nil {
		r = &liveRelay{}
		f.relays[id] = r
	}
	return r
}

// hostChanged follows an added, changed or forgotten host; known is whether the state still has it.
func (f *fleet) hostChanged(h *state.Host, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	live := f.hostLocked(h.ID)
	if live.pooled && (live.pool != h.Pool || !known) {
		ids := f.pools[live.pool]
		if i := slices.Index(ids, h.ID); i >= 0 {
			f.pools[live.pool] = slices.Delete(ids, i, i+1)
		}
		live.pooled = false
	}
	if !known {
		delete(f.hosts, h.ID)
		return
	}
	f.poolLocked(live, h)
	f.wakeLocked()
}

// relayChanged follows an added, changed or forgotten relay. A new state begins with a clean record.
func (f *fleet) relayChanged(r *state.Relay, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.Index(f.members, r.ID)
	if !known {
		if i >= 0 {
			f.members = slices.Delete(f.members, i, i+1)
		}
		delete(f.relays, r.ID)
		return
	}
	if i < 0 {
		f.members = append(f.members, r.ID)
	}
	live := f.relayLocked(r.ID)
	if live.since != r.Since && live.load != nil {
		live.baseOK, live.baseFailed = live.load.GetCircuitsSucceeded(), live.load.GetCircuitsFailed()
	}
	live.since = r.Since
	f.wakeLocked()
}

func (f *fleet) wakeLocked() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// wait returns a channel that is closed when something may have become eligible.
func (f *fleet) wait() <-chan struct{} {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.changed
}

// settled reports whether hosts had the time to link since the election.
func (f *fleet) settled() bool { return f.now().Sub(f.elected) > electionPatience }

// pickHost chooses a host of the pool that has a free slot and is not excluded, and promises the slot until release.
func (f *fleet) pickHost(s *state.State, pool, region string, exclude []string) (id string, live *liveHost, reason *masterapi.RefusedError) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ids, now := f.pools[pool], f.now()
	if len(ids) == 0 {
		return "", nil, masterapi.Refuse(masterapi.Reason_REASON_POOL_UNKNOWN, "pool %q", pool)
	}
	eligible := func(id string) bool { return f.hostEligible(s, id, now) && !slices.Contains(exclude, id) }
	cost := func(id string) float64 { return f.hostCost(s, id, region) }
	id, ok := choose.Pick(globalRand(), ids, eligible, cost)
	if !ok {
		return "", nil, masterapi.Refuse(masterapi.Reason_REASON_NO_FREE_HOST, "pool %q: %d hosts, none linked, healthy, active and free", pool, len(ids)).After(time.Second)
	}
	live = f.hosts[id]
	live.pending++
	f.promises++
	return id, live, nil
}

// promised reports whether slots are promised to admissions that are not applied yet. A slot counts twice for a moment, as promised and as used, and two
// attempts of one request need only one.
func (f *fleet) promised() bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.promises > 0
}

// release takes back what was promised to a choice.
func (f *fleet) release(c choice) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c.host != nil {
		c.host.pending--
		f.promises--
	}
	if c.relay != nil {
		c.relay.pending--
	}
}

func (f *fleet) hostEligible(s *state.State, id string, now time.Time) bool {
	h, live := s.Host(id), f.hosts[id]
	return h != nil && live != nil && live.link != nil && h.State == masterapi.HostStateWord_HOST_STATE_ACTIVE &&
		s.SlotsUsed(id)+live.pending < int(h.Slots) && live.health.Eligible(now, f.elected)
}

func (f *fleet) hostCost(s *state.State, id, region string) float64 {
	h, live := s.Host(id), f.hosts[id]
	return choose.HostCost(choose.Host{
		Fill:       float64(s.SlotsUsed(id)+live.pending) / float64(max(1, h.Slots)),
		Load:       float64(max(live.load.GetCpu(), live.load.GetGpu(), live.load.GetMemory())),
		SameRegion: region == "" || region == h.Region,
	})
}

// pickRelay chooses a relay for a session on the host and promises a circuit until release.
func (f *fleet) pickRelay(s *state.State, cat catalog.Catalog, host *state.Host, region string, share float64, exclude []string) (id string, live *liveRelay, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now, r := f.now(), globalRand()
	fit := func(id string, proven bool) bool {
		relay := s.Relay(id)
		return f.relayEligible(s, relay, now) && !slices.Contains(exclude, id) &&
			(relay.State == masterapi.RelayState_RELAY_STATE_PROBATION) != proven
	}
	cost := func(id string) float64 { return f.relayCost(s, cat, id, host, region) }
	onTrial := func(id string) bool { return fit(id, false) }
	proven := func(id string) bool { return fit(id, true) }
	first, second := proven, onTrial
	if r.Float64() < share {
		first, second = onTrial, proven
	}
	if id, ok = choose.Pick(r, f.members, first, cost); !ok {
		id, ok = choose.Pick(r, f.members, second, cost)
	}
	if !ok {
		return "", nil, false
	}
	live = f.relays[id]
	live.pending++
	return id, live, true
}

func (f *fleet) relayEligible(s *state.State, relay *state.Relay, now time.Time) bool {
	if relay == nil || !relay.Takes() {
		return false
	}
	live := f.relays[relay.ID]
	return live != nil && s.CircuitsOn(relay.ID)+live.pending < int(relay.Capacity) && !live.load.GetOverloaded() && live.health.Eligible(now, f.elected)
}

func (f *fleet) relayCost(s *state.State, cat catalog.Catalog, id string, host *state.Host, region string) float64 {
	relay, live := s.Relay(id), f.relays[id]
	if region == "" && host != nil {
		region = host.Region
	}
	load := float64(live.load.GetCpu())
	if relay.CapacityBits > 0 {
		load = max(load, float64(live.load.GetBitsPerSecond())/float64(relay.CapacityBits))
	}
	return choose.RelayCost(choose.Relay{
		Fill: float64(s.CircuitsOn(id)+live.pending) / float64(max(1, relay.Capacity)), Load: load, Score: live.score(),
		RTT: f.rtt(cat, id, host), SameRegion: region == "" || region == relay.Region, Degraded: relay.State == masterapi.RelayState_RELAY_STATE_DEGRADED,
	})
}

// rtt is what the host measured to the relay, or Consul's estimate between their nodes, or 0.
func (f *fleet) rtt(cat catalog.Catalog, relay string, host *state.Host) float64 {
	if host == nil {
		return 0
	}
	live := f.hosts[host.ID]
	if live == nil {
		return 0
	}
	for _, m := range live.load.GetRelayRtts() {
		if m.GetRelayId() == relay {
			return float64(m.GetMilliseconds())
		}
	}
	if cat == nil || live.node == "" || f.relays[relay].node == "" {
		return 0
	}
	return cat.RTT(live.node, f.relays[relay].node)
}

// record is what the relay's circuits did since its present state began.
func (r *liveRelay) record() choose.Record {
	return choose.Record{
		Succeeded: r.load.GetCircuitsSucceeded() - min(r.baseOK, r.load.GetCircuitsSucceeded()),
		Failed:    r.load.GetCircuitsFailed() - min(r.baseFailed, r.load.GetCircuitsFailed()), Overloaded: r.load.GetOverloaded(),
	}
}

// score is the part of its circuits that worked, pulled towards 1 while little is known.
func (r *liveRelay) score() float64 {
	c := r.record()
	const prior = 10
	return (float64(c.Succeeded) + prior) / (float64(c.Succeeded+c.Failed) + prior)
}

// globalRand is a cheap source for choices; nothing secret depends on it.
func globalRand() *rand.Rand { return rand.New(globalSource{}) }

type globalSource struct{}

func (globalSource) Uint64() uint64 { return rand.Uint64() }

// observe takes in what the catalog says about one service.
func (f *fleet) observe(service string, u catalog.Update) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stale[service] = u.Err != nil
	if u.Err != nil {
		return // the last word holds
	}
	now, listed := f.now(), map[string]bool{}
	for _, i := range u.Instances {
		listed[i.ID] = true
		m, node := f.machineLocked(service, i.ID)
		m.Listed(i.Status, now)
		*node = i.Node
	}
	f.vanishedLocked(service, listed, now)
	f.wakeLocked()
}

func (f *fleet) machineLocked(service, id string) (*health.Machine, *string) {
	if service == catalog.ServiceHost {
		h := f.hostLocked(id)
		return &h.health, &h.node
	}
	r := f.relayLocked(id)
	return &r.health, &r.node
}

func (f *fleet) vanishedLocked(service string, listed map[string]bool, now time.Time) {
	if service == catalog.ServiceHost {
		for id, h := range f.hosts {
			if !listed[id] {
				h.health.Vanished(now)
			}
		}
		return
	}
	for id, r := range f.relays {
		if !listed[id] {
			r.health.Vanished(now)
		}
	}
}
