package masterlink

import (
	"crypto/tls"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/masterclient"
	"github.com/wavry/fleet/relay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newLink(t *testing.T, keyFile string) (*Link, *relay.Policy) {
	t.Helper()
	client, err := masterclient.New(masterclient.Config{Addresses: []string{"127.0.0.1:1"}, TLS: &tls.Config{}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := New(Config{Client: client, KeyFile: keyFile})
	if err != nil {
		t.Fatal(err)
	}
	last := new(relay.Policy)
	l.apply = func(p relay.Policy) error { *last = p; return nil }
	return l, last
}

func keys(version uint64, ids ...string) *masterapi.KeySet {
	set := &masterapi.KeySet{Version: version}
	for _, id := range ids {
		set.Keys = append(set.Keys, &masterapi.PublicKey{KeyId: id, PublicKey: make([]byte, 32)})
	}
	return set
}

func ids(p *relay.Policy) (list []string) {
	for _, k := range p.Keys {
		list = append(list, k.ID)
	}
	return list
}

// TestPolicyIsWhole proves that each command changes its part and leaves the rest of the policy in force.
func TestPolicyIsWhole(t *testing.T) {
	l, p := newLink(t, "")
	l.command(&masterapi.RelayCommand{Command: &masterapi.RelayCommand_Welcome{Welcome: &masterapi.Welcome{
		KeySet: keys(1, "k1"), Revocations: &masterapi.Revocations{LeaseIds: []string{"a"}}, State: "active", Now: timestamppb.Now(),
	}}})
	if !slices.Equal(ids(p), []string{"k1"}) || !slices.Equal(p.Revoked, []string{"a"}) || p.Draining {
		t.Fatalf("after the welcome: %+v", p)
	}
	past, future := timestamppb.New(time.Now().Add(-time.Hour)), timestamppb.New(time.Now().Add(time.Hour))
	l.command(&masterapi.RelayCommand{Command: &masterapi.RelayCommand_Bans{Bans: &masterapi.BanList{Bans: []*masterapi.Ban{
		{Kind: masterapi.Ban_KIND_HOST, Subject: "h1"}, {Kind: masterapi.Ban_KIND_HOST, Subject: "h2", Expiry: past},
		{Kind: masterapi.Ban_KIND_ADDRESS, Subject: "192.0.2.7", Expiry: future}, {Kind: masterapi.Ban_KIND_ADDRESS, Subject: "2001:db8::1/32"},
		{Kind: masterapi.Ban_KIND_ADDRESS, Subject: "nonsense"}, {Kind: masterapi.Ban_KIND_LOGIN, Subject: "somebody"},
	}}}})
	wantSources := []netip.Prefix{netip.MustParsePrefix("192.0.2.7/32"), netip.MustParsePrefix("2001:db8::/32")}
	if !slices.Equal(p.BannedHosts, []string{"h1"}) || !slices.Equal(p.BannedSources, wantSources) || len(p.Keys) != 1 {
		t.Errorf("after the bans: %+v", p)
	}
	l.command(&masterapi.RelayCommand{Command: &masterapi.RelayCommand_KeySet{KeySet: keys(3, "k1", "k2")}})
	l.command(&masterapi.RelayCommand{Command: &masterapi.RelayCommand_KeySet{KeySet: keys(2, "k0")}}) // late
	if !slices.Equal(ids(p), []string{"k1", "k2"}) || len(p.BannedHosts) != 1 {
		t.Errorf("after the rotation: %+v", p)
	}
	l.command(&masterapi.RelayCommand{Command: &masterapi.RelayCommand_Drain{Drain: &masterapi.DrainCommand{}}})
	if !p.Draining || len(p.Keys) != 2 {
		t.Errorf("after drain: %+v", p)
	}
	l.command(&masterapi.RelayCommand{Command: &masterapi.RelayCommand_Activate{Activate: &masterapi.ActivateCommand{}}})
	l.command(&masterapi.RelayCommand{Command: &masterapi.RelayCommand_Revocations{Revocations: &masterapi.Revocations{LeaseIds: []string{"b"}}}})
	l.command(&masterapi.RelayCommand{}) // of a newer master
	if p.Draining || !slices.Equal(p.Revoked, []string{"b"}) {
		t.Errorf("after activate and revoke: %+v", p)
	}
}

// TestKeysSurvive proves that a relay that restarts while the master is away knows the keys it knew.
func TestKeysSurvive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyset.json")
	l, _ := newLink(t, path)
	l.command(&masterapi.RelayCommand{Command: &masterapi.RelayCommand_KeySet{KeySet: keys(1, "k1")}})
	again, p := newLink(t, path)
	again.enforce()
	if !slices.Equal(ids(p), []string{"k1"}) {
		t.Errorf("knows %v", ids(p))
	}
}

// TestHello proves what the relay says of itself, and that reports while the link is down are no errors.
func TestHello(t *testing.T) {
	l, _ := newLink(t, "")
	h := l.hello(relay.Self{RelayID: "r1", Region: "eu", ControlAddr: netip.MustParseAddrPort("[2001:db8::1]:7480"), MaxCircuits: 5, Successor: true})
	if h.GetRelayId() != "r1" || h.GetControlAddress() != "[2001:db8::1]:7480" || h.GetCapacityCircuits() != 5 || !h.GetSuccessor() || h.GetBootId() == "" {
		t.Errorf("%+v", h)
	}
	if err := l.Report(t.Context(), relay.Load{Leaving: true}); err != nil {
		t.Error(err)
	}
	l.Circuit(relay.CircuitEvent{Lease: "a"})
	l.Circuit(relay.CircuitEvent{Lease: "a", Ended: true, Cause: "expired"})
}

// TestReasonsOfEnds proves that every cause the relay knows has a reason of the fleet.
func TestReasonsOfEnds(t *testing.T) {
	for cause, want := range map[string]masterapi.Reason{
		"released": masterapi.Reason_REASON_USER_ENDED, "expired": masterapi.Reason_REASON_LEASE_EXPIRED, "host_idle": masterapi.Reason_REASON_HOST_LOST,
		"viewer_idle": masterapi.Reason_REASON_VIEWER_LEFT, "no_viewer": masterapi.Reason_REASON_VIEWER_LEFT, "revoked": masterapi.Reason_REASON_LEASE_REVOKED,
	} {
		if got := reasonOf(cause); got != want {
			t.Errorf("%s is %v", cause, got)
		}
	}
}
