package state

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wavry/fleet/master/masterapi"
)

var update = flag.Bool("update", false, "write testdata of the present version")

// prepared is a state with one key, one relay in use and one host with two slots.
func prepared(t *testing.T) *State {
	t.Helper()
	s := New()
	run(t, s, &AddKey{ID: "k1", Public: "p"}, &AddKey{ID: "k2", Public: "p"},
		&PutRelay{Relay: Relay{ID: "r1", Boot: "b1", Capacity: 2}}, &SetRelayState{ID: "r1", To: active, Actor: MasterActor},
		&PutHost{Host: Host{ID: "h1", Pool: "default", Boot: "b1", Slots: 2, Region: "eu", Rule: "h1=default/2"}})
	return s
}

func run(t *testing.T, s *State, commands ...Command) []Result {
	t.Helper()
	return runAt(t, s, s.now+1, commands...)
}

func runAt(t *testing.T, s *State, now Millis, commands ...Command) []Result {
	t.Helper()
	results, err := s.Apply(s.index+1, AppendEntry(nil, now, commands...))
	if err != nil {
		t.Fatal(err)
	}
	return results
}

func admit(id string) *IssueLease {
	return &IssueLease{Pool: "default", Lease: Lease{
		ID: "l" + id, Session: "s" + id, Viewer: "v" + id, Login: "ada", Host: "h1", Relay: "r1", Circuit: 7, Key: "k1", Expiry: 300_000,
		Role: masterapi.ViewerRole_VIEWER_ROLE_CONTROL,
	}}
}

// TestIssueIsIdempotent proves that a retry gives the same lease and holds one slot, and that a different wish under the same id is refused.
func TestIssueIsIdempotent(t *testing.T) {
	s := prepared(t)
	first := run(t, s, admit("1"))[0]
	again := run(t, s, admit("1"))[0]
	if first.Err() != nil || again.Err() != nil || again.Lease.ID != first.Lease.ID || again.Changed || s.SlotsUsed("h1") != 1 {
		t.Fatalf("first %+v, again %+v, %d slots", first, again, s.SlotsUsed("h1"))
	}
	other := admit("1")
	other.Lease.Login = "eve"
	if r := run(t, s, other)[0]; r.Refused != masterapi.Reason_REASON_REQUEST_CONFLICT {
		t.Errorf("other login: %+v", r)
	}
	run(t, s, &EndLease{ID: "l1", State: masterapi.LeaseState_LEASE_STATE_RELEASED, Reason: masterapi.Reason_REASON_USER_ENDED})
	if r := run(t, s, admit("1"))[0]; r.Refused != masterapi.Reason_REASON_LEASE_ENDED {
		t.Errorf("after the end: %+v", r)
	}
}

// TestRefusals proves the reason of each refusal of an admission.
func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		before []Command
		change func(*IssueLease)
		want   masterapi.Reason
	}{
		"no slot":          {[]Command{admit("a"), admit("b")}, func(i *IssueLease) { i.Lease.Relay = "" }, masterapi.Reason_REASON_NO_FREE_HOST},
		"relay full":       {[]Command{admit("a"), admit("b")}, nil, masterapi.Reason_REASON_NO_RELAY},
		"unknown host":     {nil, func(i *IssueLease) { i.Lease.Host = "h9" }, masterapi.Reason_REASON_NO_FREE_HOST},
		"draining host":    {[]Command{&SetHostState{ID: "h1", To: hostDraining, Actor: MasterActor}}, nil, masterapi.Reason_REASON_NO_FREE_HOST},
		"other pool":       {nil, func(i *IssueLease) { i.Pool = "kde" }, masterapi.Reason_REASON_NO_FREE_HOST},
		"draining relay":   {[]Command{&SetRelayState{ID: "r1", To: draining, Actor: MasterActor}}, nil, masterapi.Reason_REASON_NO_RELAY},
		"banned login":     {[]Command{&PutBan{Ban{Kind: masterapi.Ban_KIND_LOGIN, Subject: "ada"}}}, nil, masterapi.Reason_REASON_BANNED},
		"banned prefix":    {[]Command{&PutBan{Ban{Kind: masterapi.Ban_KIND_ADDRESS, Subject: "192.0.2.0/24"}}}, func(i *IssueLease) { i.Lease.Address = "192.0.2.9" }, masterapi.Reason_REASON_BANNED},
		"wrong key":        {nil, func(i *IssueLease) { i.Lease.Key = "k2" }, masterapi.Reason_REASON_NO_SIGNING_KEY},
		"unknown session":  {nil, func(i *IssueLease) { i.Pool = "" }, masterapi.Reason_REASON_SESSION_UNKNOWN},
		"second in charge": {[]Command{admit("a")}, func(i *IssueLease) { i.Pool, i.Lease.Session = "", "sa" }, masterapi.Reason_REASON_SESSION_HAS_CONTROLLER},
	} {
		t.Run(name, func(t *testing.T) {
			s := prepared(t)
			run(t, s, c.before...)
			i := admit("1")
			if c.change != nil {
				c.change(i)
			}
			if r := run(t, s, i)[0]; r.Refused != c.want || r.Detail == "" {
				t.Errorf("%+v, want %s", r, c.want)
			}
		})
	}
}

// TestControlMoves proves that replacing the controller ends the old one's lease and keeps the session.
func TestControlMoves(t *testing.T) {
	s := prepared(t)
	second := admit("2")
	second.Pool, second.Lease.Session, second.Replace = "", "s1", true
	run(t, s, admit("1"))
	if r := run(t, s, second)[0]; r.Err() != nil {
		t.Fatal(r.Err())
	}
	if s.Lease("l1").Live() || !s.Lease("l2").Live() || !s.Session("s1").Live() {
		t.Errorf("l1 %v, l2 %v, s1 %v", s.Lease("l1").Live(), s.Lease("l2").Live(), s.Session("s1").Live())
	}
}

// TestLifeOfALease proves the states, that a renewal beats a late expiry, and that the last lease ends its session and frees the slot.
func TestLifeOfALease(t *testing.T) {
	s := prepared(t)
	run(t, s, admit("1"))
	run(t, s, &ProgressLease{ID: "l1", State: masterapi.LeaseState_LEASE_STATE_ACTIVE}, &ProgressLease{ID: "l1", State: masterapi.LeaseState_LEASE_STATE_PRESENTED})
	if got := s.Lease("l1").State; got != masterapi.LeaseState_LEASE_STATE_ACTIVE {
		t.Errorf("state went back to %s", got)
	}
	run(t, s, &RenewLease{ID: "l1", Key: "k1", Expiry: 600_000}, &ExpireLeases{Before: 300_000, IDs: []string{"l1"}})
	if !s.Lease("l1").Live() {
		t.Fatal("a renewed lease expired")
	}
	s.TakeEvents()
	run(t, s, &ExpireLeases{Before: 600_000, IDs: []string{"l1"}})
	if l, session := s.Lease("l1"), s.Session("s1"); l.Live() || session.Live() || session.Reason != masterapi.Reason_REASON_LEASE_EXPIRED || s.SlotsUsed("h1") != 0 {
		t.Errorf("lease %+v session %+v", l, session)
	}
	if events := s.TakeEvents(); len(events) != 2 || events[0].Kind != EventLeaseEnded || events[1].Kind != EventSessionEnded {
		t.Errorf("events %+v", events)
	}
	runAt(t, s, s.now.Add(RememberFor), &Note{Action: "tick"})
	if s.Lease("l1") != nil || s.Session("s1") != nil || len(s.ended) != 0 {
		t.Error("an ended session is remembered for too long")
	}
}

// TestKeyRotation proves the life of keys: next, signing, retiring until its last lease has ended, retired; and that revoking ends its leases.
func TestKeyRotation(t *testing.T) {
	s := prepared(t)
	run(t, s, admit("1"))
	version := s.KeySetVersion()
	run(t, s, &RotateKey{From: "k1", Next: AddKey{ID: "k3"}, Actor: MasterActor}, &RotateKey{From: "k1", Next: AddKey{ID: "k4"}, Actor: MasterActor})
	if s.SigningKey().ID != "k2" || s.NextKey().ID != "k3" || s.KeySetVersion() != version+1 {
		t.Fatalf("signing %s next %s version %d", s.SigningKey().ID, s.NextKey().ID, s.KeySetVersion())
	}
	run(t, s, &RetireKeys{Before: s.now + 1})
	if _, k := s.key("k1"); k.State != keyRetiring {
		t.Errorf("a key with a live lease is %s", k.State)
	}
	run(t, s, &RenewLease{ID: "l1", Key: "k2", Expiry: 900_000}, &RetireKeys{Before: s.now + 1})
	if _, k := s.key("k1"); k.State != keyRetired || k.Sealed != "" {
		t.Errorf("k1 %+v", k)
	}
	run(t, s, &RevokeKey{ID: "k2", Next: AddKey{ID: "k5"}, Actor: "operator/ada"})
	if l := s.Lease("l1"); l.Live() || l.Reason != masterapi.Reason_REASON_KEY_REVOKED || s.SigningKey().ID != "k3" || s.NextKey().ID != "k5" {
		t.Errorf("lease %+v signing %s next %v", l, s.SigningKey().ID, s.NextKey())
	}
	if a := s.Audit(1); len(a) != 1 || a[0].Action != "key revoke" {
		t.Errorf("audit %+v", a)
	}
}

// TestRelayStates proves that only the moves of the table are possible, that a returning relay starts in probation and that drains by operators stay.
func TestRelayStates(t *testing.T) {
	all := []masterapi.RelayState{probation, active, degraded, draining, drained, quarantined, banned}
	for _, from := range all {
		for _, to := range all {
			s := New()
			s.relays["r"] = &Relay{ID: "r", State: from}
			r := run(t, s, &SetRelayState{ID: "r", To: to, Actor: "operator/ada"})[0]
			allowed := from == to || RelayMoveAllowed(from, to)
			if (r.Err() == nil) != allowed || (s.relays["r"].State == to) != allowed {
				t.Errorf("%s to %s: %+v", from, to, r)
			}
		}
		if !RelayMoveAllowed(from, Activation(from)) && from != active && from != probation {
			t.Errorf("activation of %s leads nowhere", from)
		}
	}
	for name, c := range map[string]struct {
		actor     string
		state     masterapi.RelayState
		boot      string
		successor bool
		want      masterapi.RelayState
	}{
		"new process":           {"x", active, "b2", false, probation},
		"same process":          {"x", active, "b1", false, active},
		"successor":             {"x", active, "b2", true, active},
		"drained by itself":     {SelfActor, drained, "b2", false, probation},
		"drained by operator":   {"operator/ada", drained, "b2", false, drained},
		"quarantined stays":     {"operator/ada", quarantined, "b2", false, quarantined},
		"draining in same boot": {SelfActor, draining, "b1", false, draining},
	} {
		s := New()
		s.relays["r"] = &Relay{ID: "r", State: c.state, Actor: c.actor, Boot: "b1"}
		run(t, s, &PutRelay{Relay: Relay{ID: "r", Boot: c.boot}, Successor: c.successor})
		if got := s.relays["r"].State; got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// TestHistoryIsBounded proves that a flapping relay does not grow.
func TestHistoryIsBounded(t *testing.T) {
	s := prepared(t)
	for range 3 * maxHistory {
		run(t, s, &SetRelayState{ID: "r1", To: degraded, Actor: MasterActor}, &SetRelayState{ID: "r1", To: active, Actor: MasterActor})
	}
	if n := len(s.Relay("r1").History); n != maxHistory {
		t.Errorf("%d transitions, want %d", n, maxHistory)
	}
}

// TestUnknownCommands proves that an unknown command stops the server unless it is marked ignorable.
func TestUnknownCommands(t *testing.T) {
	for name, c := range map[string]struct {
		flags   byte
		version byte
		kind    byte
		err     error
	}{
		"unknown fatal":      {0, 1, 99, ErrTooNew},
		"unknown ignorable":  {flagIgnorable, 1, 99, nil},
		"newer note":         {flagIgnorable, 9, byte(kindNote), nil},
		"newer lease":        {0, 9, byte(kindIssueLease), ErrTooNew},
		"trailing in a note": {0, 1, byte(kindNote), ErrCorrupt},
	} {
		entry := []byte{entryVersion, 1, 1, c.kind, c.version, c.flags, 6, 0, 0, 0, 0, 0, 0}
		results, err := New().Apply(1, entry)
		if !errors.Is(err, c.err) || (err == nil && !results[0].Skipped) {
			t.Errorf("%s: %+v, %v", name, results, err)
		}
	}
}

// TestTruncated proves that every cut of an entry and of a snapshot is an error and never a panic.
func TestTruncated(t *testing.T) {
	w := newWorld(1)
	entries := w.entries(60)
	s := New()
	for i, entry := range entries {
		mustApply(t, s, i+1, entry)
		for n := range entry {
			if _, err := New().Apply(1, entry[:n]); err == nil {
				t.Fatalf("entry %d cut at %d was taken", i, n)
			}
		}
	}
	whole := snapshotBytes(t, s)
	for n := range whole {
		if _, err := Read(bytes.NewReader(whole[:n])); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("snapshot cut at %d: %v", n, err)
		}
	}
	for n := range whole {
		broken := bytes.Clone(whole)
		broken[n] ^= 0x40
		if got, err := Read(bytes.NewReader(broken)); err == nil && !bytes.Equal(snapshotBytes(t, got), whole) {
			t.Fatalf("a flipped bit at %d went unnoticed", n)
		}
	}
}

// TestOldVersions proves that logs and snapshots written by every earlier version still load.
func TestOldVersions(t *testing.T) {
	if *update {
		writeTestdata(t)
	}
	logs, err := filepath.Glob("testdata/log-v*.bin")
	if err != nil || len(logs) == 0 {
		t.Fatalf("no logs in testdata: %v", err)
	}
	for _, path := range logs {
		s := New()
		for i, entry := range splitLog(t, path) {
			mustApply(t, s, i+1, entry)
		}
		checkInvariants(t, s)
		snapshot, err := os.ReadFile(strings.Replace(path, "log-", "snapshot-", 1))
		if err != nil {
			t.Fatal(err)
		}
		restored, err := Read(bytes.NewReader(snapshot))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if !bytes.Equal(snapshotBytes(t, restored), snapshotBytes(t, s)) {
			t.Errorf("%s and its snapshot give different states", path)
		}
	}
}

func writeTestdata(t *testing.T) {
	s := New()
	var log []byte
	for i, entry := range newWorld(42).entries(120) {
		mustApply(t, s, i+1, entry)
		log = append(log, byte(len(entry)), byte(len(entry)>>8))
		log = append(log, entry...)
	}
	for name, data := range map[string][]byte{"log-v1.bin": log, "snapshot-v1.bin": snapshotBytes(t, s)} {
		if err := os.WriteFile(filepath.Join("testdata", name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func splitLog(t *testing.T, path string) (entries [][]byte) {
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for len(data) > 0 {
		n := int(data[0]) | int(data[1])<<8
		entries, data = append(entries, data[2:2+n]), data[2+n:]
	}
	return entries
}

// TestMillis proves that times survive to the millisecond and that zero stays zero.
func TestMillis(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 123456789, time.UTC)
	if got := At(now).Time(); !got.Equal(now.Truncate(time.Millisecond)) {
		t.Errorf("%s", got)
	}
	if At(time.Time{}) != 0 || !Millis(0).Time().IsZero() {
		t.Error("zero is not never")
	}
}

// TestBansEnd proves that a ban with an expiry ends by itself.
func TestBansEnd(t *testing.T) {
	s := prepared(t)
	end := s.now + 1000
	run(t, s, &PutBan{Ban{Kind: masterapi.Ban_KIND_LOGIN, Subject: "ada", Expiry: end}})
	if s.Banned("ada", "", end-1) == nil || s.Banned("ada", "", end) != nil || len(s.Bans(end)) != 0 {
		t.Error("the ban does not end when it says")
	}
}

func FuzzApply(f *testing.F) {
	for _, entry := range newWorld(3).entries(40) {
		f.Add(entry)
	}
	f.Fuzz(func(t *testing.T, entry []byte) {
		s := prepared(t)
		if _, err := s.Apply(s.index+1, entry); err != nil {
			return
		}
		if _, err := Read(bytes.NewReader(snapshotBytes(t, s))); err != nil {
			t.Fatalf("a state that was applied does not restore: %v", err)
		}
	})
}

func FuzzRead(f *testing.F) {
	s := New()
	for i, entry := range newWorld(4).entries(40) {
		if _, err := s.Apply(uint64(i+1), entry); err != nil {
			f.Fatal(err)
		}
	}
	var b bytes.Buffer
	if err := s.Snapshot().Write(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := Read(bytes.NewReader(data))
		if err != nil {
			return
		}
		snapshotBytes(t, got)
	})
}
