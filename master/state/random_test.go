package state

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/wavry/fleet/master/masterapi"
)

// world makes random but plausible commands; it knows ids, not the state.
type world struct {
	r      *rand.Rand
	now    Millis
	leases []string
	keys   int
	// shadow is a server of its own: most commands name the key that signs there, or the stream would only be refused.
	shadow *State
}

func newWorld(seed uint64) *world {
	return &world{r: rand.New(rand.NewPCG(seed, 1)), now: 1_800_000_000_000, shadow: New()}
}

func (w *world) id(prefix string, n int) string { return fmt.Sprintf("%s%d", prefix, w.r.IntN(n)) }

func (w *world) lease() string {
	if len(w.leases) == 0 || w.r.IntN(20) == 0 {
		return "unknown"
	}
	return w.leases[w.r.IntN(len(w.leases))]
}

func (w *world) newKey() AddKey {
	w.keys++
	id := fmt.Sprintf("k%d", w.keys)
	return AddKey{ID: id, Public: "public" + id, Sealed: "sealed" + id}
}

func (w *world) signing() string {
	if k := w.shadow.SigningKey(); k != nil && w.r.IntN(20) > 0 {
		return k.ID
	}
	return w.id("k", w.keys+1)
}

func (w *world) issue() Command {
	n := len(w.leases)
	c := &IssueLease{Lease: Lease{
		ID: fmt.Sprintf("l%d", n), Session: fmt.Sprintf("s%d", n), Viewer: w.id("v", 5), Login: w.id("user", 8), Host: w.id("h", 6), Region: "eu",
		Key: w.signing(), Address: "192.0.2.7", ViewerKey: w.id("key", 3), Circuit: w.r.Uint64(), Expiry: w.now + 300_000, Role: masterapi.ViewerRole(1 + w.r.IntN(2)),
	}}
	if w.r.IntN(2) == 0 {
		c.Lease.Relay = w.id("r", 4)
	} else {
		c.Lease.Circuit = 0
	}
	if w.r.IntN(3) > 0 || n == 0 {
		c.Pool = "default"
	} else {
		c.Lease.Session, c.Replace = fmt.Sprintf("s%d", w.r.IntN(n)), w.r.IntN(2) == 0
	}
	w.leases = append(w.leases, c.Lease.ID)
	if w.r.IntN(10) == 0 {
		c.Lease.ID = w.lease() // a retry, or a clash
	}
	return c
}

func (w *world) command() Command {
	actor := []string{MasterActor, SelfActor, "operator/ada"}[w.r.IntN(3)]
	switch w.r.IntN(25) {
	case 0:
		return &PutRelay{Relay: Relay{ID: w.id("r", 4), Region: w.id("eu", 2), Boot: w.id("b", 3), Capacity: 5}, Successor: w.r.IntN(4) == 0}
	case 1:
		return &PutHost{Host: Host{ID: w.id("h", 6), Pool: "default", Region: "eu", Boot: w.id("b", 3), Slots: 4, Addresses: []string{"a:1", "b:2"}, Attributes: []Attribute{{"x", "y"}}, LinkedBy: "host/*", Serial: w.id("c", 3), Rule: []string{"", "rule", "rule"}[w.r.IntN(3)]}}
	case 2:
		return &SetRelayState{ID: w.id("r", 5), To: masterapi.RelayState(w.r.IntN(8)), Reason: "test", Actor: actor}
	case 3:
		return &SetHostState{ID: w.id("h", 7), To: masterapi.HostStateWord(w.r.IntN(6)), Reason: "test", Actor: actor}
	case 4:
		return &ForgetRelay{ID: w.id("r", 8), Actor: actor}
	case 5:
		return &ForgetHost{ID: w.id("h", 12), Actor: actor}
	case 6, 7:
		return &RenewLease{ID: w.lease(), Key: w.signing(), Expiry: w.now + 300_000}
	case 8, 9:
		return &EndLease{ID: w.lease(), State: masterapi.LeaseState(4 + 2*w.r.IntN(2)), Reason: masterapi.Reason_REASON_USER_ENDED, Actor: []string{"", actor}[w.r.IntN(2)]}
	case 10:
		return &ExpireLeases{Before: w.now, IDs: []string{w.lease(), w.lease(), w.lease()}}
	case 11:
		return &ProgressLease{ID: w.lease(), State: masterapi.LeaseState(w.r.IntN(6))}
	case 12:
		return &EndSession{ID: w.id("s", len(w.leases)+1), Reason: masterapi.Reason_REASON_OPERATOR_ENDED, Message: "bye", Actor: []string{"", actor}[w.r.IntN(2)]}
	case 13:
		k := w.newKey()
		return &AddKey{ID: k.ID, Public: k.Public, Sealed: k.Sealed}
	case 14:
		return &RotateKey{From: w.signing(), Next: w.newKey(), Actor: actor}
	case 15:
		if w.r.IntN(5) > 0 {
			return &RetireKeys{Before: w.now}
		}
		return &RevokeKey{ID: w.signing(), Next: w.newKey(), Actor: actor, Note: "leak"}
	case 16:
		return &PutBan{Ban: Ban{Kind: masterapi.Ban_KIND_LOGIN, Subject: w.id("user", 30), Expiry: w.now + 5000, Reason: "noise", Actor: actor}}
	case 17:
		return &RemoveBan{Kind: masterapi.Ban_KIND_LOGIN, Subject: w.id("user", 30), Actor: actor}
	case 18:
		return &Note{Actor: actor, Action: "peer remove", Subject: "m3"}
	case 19:
		return &ApproveHost{ID: w.id("h", 6), Pool: "default", Region: "eu", Slots: 4, Reason: "mine", Actor: actor}
	default:
		return w.issue()
	}
}

// entries returns n log entries of one to four commands; time goes on by up to ten seconds each.
func (w *world) entries(n int) [][]byte {
	list := make([][]byte, 0, n+1)
	list = append(list, AppendEntry(nil, w.now, &AddKey{ID: "k0", Public: "p", Sealed: "s"}))
	if _, err := w.shadow.Apply(1, list[0]); err != nil {
		panic("the first entry does not apply: " + err.Error())
	}
	for range n {
		w.now += Millis(w.r.IntN(10_000))
		commands := make([]Command, 1+w.r.IntN(4))
		for i := range commands {
			commands[i] = w.command()
		}
		list = append(list, AppendEntry(nil, w.now, commands...))
		if _, err := w.shadow.Apply(uint64(len(list)), list[len(list)-1]); err != nil {
			panic("the generator made an entry that does not apply: " + err.Error())
		}
	}
	return list
}

func snapshotBytes(t *testing.T, s *State) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := s.Snapshot().Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func mustApply(t *testing.T, s *State, index int, entry []byte) []Result {
	t.Helper()
	results, err := s.Apply(uint64(index), entry)
	if err != nil {
		t.Fatal(err)
	}
	return results
}

// TestRandomStreams proves on random command streams that the invariants hold after every entry, that two servers come to the same bytes, and that
// a server which restored a snapshot in the middle comes to the same bytes as well.
func TestRandomStreams(t *testing.T) {
	streams, length := 30, 400
	if testing.Short() {
		streams = 5
	}
	issued := 0
	for seed := range uint64(streams) {
		entries := newWorld(seed).entries(length)
		one, two, restored := New(), New(), New()
		cut := int(seed*13) % length
		for i, entry := range entries {
			for _, r := range mustApply(t, one, i+1, entry) {
				if r.Changed && r.Lease != nil {
					issued++
				}
			}
			mustApply(t, two, i+1, append([]byte(nil), entry...))
			mustApply(t, restored, i+1, entry)
			if i == cut || i%50 == 49 {
				var err error
				if restored, err = Read(bytes.NewReader(snapshotBytes(t, restored))); err != nil {
					t.Fatalf("seed %d entry %d: %v", seed, i, err)
				}
			}
			checkInvariants(t, one)
			if t.Failed() {
				t.Fatalf("seed %d, entry %d", seed, i)
			}
		}
		want := snapshotBytes(t, one)
		if !bytes.Equal(want, snapshotBytes(t, two)) {
			t.Fatalf("seed %d: two servers differ", seed)
		}
		if !bytes.Equal(want, snapshotBytes(t, restored)) {
			t.Fatalf("seed %d: a restored server differs", seed)
		}
	}
	if issued < streams*length/10 {
		t.Fatalf("only %d changes of leases: the streams prove little", issued)
	}
}

func checkInvariants(t *testing.T, s *State) {
	t.Helper()
	live, slots, circuits, byKey, controllers := 0, map[string]int{}, map[string]int{}, map[string]int{}, map[string]string{}
	for _, l := range s.leases {
		session := s.sessions[l.Session]
		if session == nil {
			t.Errorf("lease %s without session", l.ID)
			continue
		}
		if !l.Live() {
			continue
		}
		live++
		byKey[l.Key]++
		if !session.Live() {
			t.Errorf("lease %s is live in ended session %s", l.ID, session.ID)
		}
		if l.Host != session.Host {
			t.Errorf("lease %s is on host %s, its session on %s", l.ID, l.Host, session.Host)
		}
		if l.Relay != "" {
			circuits[l.Relay]++
			if s.relays[l.Relay] == nil {
				t.Errorf("lease %s on unknown relay %s", l.ID, l.Relay)
			}
		}
		if _, k := s.key(l.Key); k == nil || !k.Published() {
			t.Errorf("lease %s is signed by key %s, which is not published", l.ID, l.Key)
		}
		if l.Role == masterapi.ViewerRole_VIEWER_ROLE_CONTROL {
			if other, ok := controllers[l.Session]; ok && other != l.Viewer {
				t.Errorf("session %s is controlled by %s and %s", l.Session, other, l.Viewer)
			}
			controllers[l.Session] = l.Viewer
		}
	}
	for _, h := range s.hosts {
		if h.State == hostActive && !h.Permitted() {
			t.Errorf("host %s is active with what nobody allowed: %s", h.ID, h.offer())
		}
	}
	for _, session := range s.sessions {
		if session.Live() {
			slots[session.Host]++
			if !s.hasLiveLease(session) {
				t.Errorf("session %s lives without a lease", session.ID)
			}
		}
	}
	for id, n := range slots {
		h := s.hosts[id]
		if h == nil || n > int(h.Slots) || n != s.SlotsUsed(id) {
			t.Errorf("host %s (%v): %d sessions, index says %d", id, h, n, s.SlotsUsed(id))
		}
	}
	for id, n := range circuits {
		if r := s.relays[id]; r != nil && (n > int(r.Capacity) || n != s.CircuitsOn(id)) {
			t.Errorf("relay %s: %d circuits, index says %d", id, n, s.CircuitsOn(id))
		}
	}
	signing, next := 0, 0
	for _, k := range s.keys {
		if byKey[k.ID] != s.LeasesOfKey(k.ID) {
			t.Errorf("key %s: %d leases, index says %d", k.ID, byKey[k.ID], s.LeasesOfKey(k.ID))
		}
		switch k.State {
		case keySigning:
			signing++
		case keyNext:
			next++
		}
	}
	if signing != 1 || next > 1 || live != s.LiveCount() {
		t.Errorf("%d signing and %d next keys; %d live leases, counted %d", signing, next, live, s.LiveCount())
	}
}
