package gateway

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/wavry/fleet/gateway/store"
)

// A deny wins, an allow or an open pattern is needed, and rules concern whom they name.
func TestAllowed(t *testing.T) {
	ada := store.User{ID: "u-ada", Role: store.RoleViewer}
	allow := func(pool string, role store.Role, user string) store.Rule {
		return store.Rule{Pool: pool, Role: role, UserID: user, Effect: store.Allow}
	}
	deny := func(pool string, role store.Role, user string) store.Rule {
		return store.Rule{Pool: pool, Role: role, UserID: user, Effect: store.Deny}
	}
	for _, c := range []struct {
		name  string
		open  []string
		rules []store.Rule
		pool  string
		want  bool
	}{
		{"nothing", nil, nil, "gnome", false},
		{"open", []string{"*"}, nil, "gnome", true},
		{"open pattern", []string{"gnome-*"}, nil, "gnome", false},
		{"open pattern fits", []string{"gnome-*"}, nil, "gnome-4k", true},
		{"allowed by name", nil, []store.Rule{allow("gnome", "", "u-ada")}, "gnome", true},
		{"another's", nil, []store.Rule{allow("gnome", "", "u-bob")}, "gnome", false},
		{"by role", nil, []store.Rule{allow("*", store.RoleViewer, "")}, "gnome", true},
		{"other role", nil, []store.Rule{allow("*", store.RoleAdmin, "")}, "gnome", false},
		{"role and name", nil, []store.Rule{allow("*", store.RoleAdmin, "u-ada")}, "gnome", false},
		{"denied to her", []string{"*"}, []store.Rule{deny("gnome", "", "u-ada")}, "gnome", false},
		{"denied to all", []string{"*"}, []store.Rule{deny("gnome", "", "")}, "gnome", false},
		{"denied to another", []string{"*"}, []store.Rule{deny("gnome", "", "u-bob")}, "gnome", true},
		{"deny wins", nil, []store.Rule{allow("gnome", "", "u-ada"), deny("*", store.RoleViewer, "")}, "gnome", false},
		{"other pool denied", []string{"*"}, []store.Rule{deny("kde", "", "")}, "gnome", true},
	} {
		if got := allowed(c.open, c.rules, ada, c.pool); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	if atLeast("", store.RoleViewer) || atLeast(store.RoleViewer, "") || !atLeast(store.RoleAdmin, store.RoleOperator) || atLeast(store.RoleViewer, store.RoleOperator) {
		t.Error("order of roles")
	}
}

// A limiter allows its burst, then one per period, keeps its memory bounded and a guesser limited while others come and go.
func TestLimiter(t *testing.T) {
	now := newClock().now()
	l := newLimiter(3, time.Second, 10)
	for i := range 5 {
		if _, ok := l.take("a", now); ok != (i < 3) {
			t.Fatalf("take %d: %v", i, ok)
		}
	}
	if wait, _ := l.take("a", now); wait != time.Second {
		t.Fatalf("wait %v", wait)
	}
	if _, ok := l.take("a", now.Add(time.Second)); !ok {
		t.Fatal("no token after a period")
	}
	if _, ok := l.take("a", now.Add(-time.Hour)); ok {
		t.Fatal("a clock that goes back gives tokens")
	}
	// A clock that was an hour ahead makes nobody wait longer than for the next token.
	for range 3 {
		l.take("jumped", now.Add(time.Hour))
	}
	if wait, _ := l.take("jumped", now); wait > time.Second {
		t.Fatalf("wait %v after a clock that was ahead", wait)
	}
	if _, ok := l.take("jumped", now.Add(time.Second)); !ok {
		t.Fatal("no token a period later")
	}
	for i := range 1000 {
		l.take(fmt.Sprint(i), now)
		if len(l.buckets) > 10 {
			t.Fatalf("%d keys remembered", len(l.buckets))
		}
	}
}

// One IPv6 customer counts once, however large the part of the net is that they were given.
func TestAddressKeys(t *testing.T) {
	for _, p := range []struct {
		a, b string
		same []bool
	}{
		{"2001:db8::1", "2001:db8::ffff:1", []bool{true, true, true}},
		{"2001:db8:0:1::1", "2001:db8:0:2::1", []bool{false, true, true}},
		{"2001:db8:0:100::1", "2001:db8:0:200::1", []bool{false, false, true}},
		{"2001:db8:1::1", "2001:db8:2::1", []bool{false, false, false}},
		{"fe80::1%eth0", "fe80::2%eth1", []bool{true, true, true}},
		{"::ffff:192.0.2.1", "192.0.2.1", []bool{true}},
		{"192.0.2.1", "192.0.2.2", []bool{false}},
	} {
		a, b := addressKeys(netip.MustParseAddr(p.a)), addressKeys(netip.MustParseAddr(p.b))
		if len(a) != len(p.same) || len(b) != len(p.same) {
			t.Fatalf("%v and %v", a, b)
		}
		for i, same := range p.same {
			if (a[i] == b[i]) != same {
				t.Errorf("%s and %s", a[i], b[i])
			}
		}
	}
	if a, b := networkKey(netip.MustParseAddr("192.0.2.1")), networkKey(netip.MustParseAddr("192.0.2.200")); a != b || networkKey(netip.Addr{}) == a {
		t.Errorf("networks %s and %s", a, b)
	}
}

// Bans are stored in one form, and one that would ban everybody is refused.
func TestCanonicalPrefix(t *testing.T) {
	for in, want := range map[string]string{" 192.0.2.1 ": "192.0.2.1/32", "192.0.2.77/24": "192.0.2.0/24", "::ffff:192.0.2.1": "192.0.2.1/32",
		"2001:db8::1": "2001:db8::1/128", "0.0.0.0/0": "", "::/0": "", "x": "", "": "", "192.0.2.0/33": ""} {
		got, err := canonicalPrefix(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

// Names that would confuse a reader of lists and logs are refused.
func TestCheckName(t *testing.T) {
	for name, good := range map[string]bool{"ada": true, "Ada Lovelace": true, "ada@example.org": true, "Ωmega": true, strings.Repeat("x", maxName): true,
		"": false, " ada": false, "ada ": false, "a\nb": false, "a/b": false, "a\u202eb": false, "a\u200bb": false, "a\u2066b": false, "ad\u00ada": false, "\u2800": true, "日本 ä": true, "a\xffb": false, strings.Repeat("x", maxName+1): false} {
		if err := checkName(name); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// All problems of a configuration are reported at once, each with key, value and rule; plain HTTP is for loopback.
func TestValidate(t *testing.T) {
	good := testConfig(t, startFleet(t))
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	bad := good
	bad.Master = nil
	bad.BindAddr, bad.OpsAddr, bad.PublicURL = "0.0.0.0:80", "nowhere", "ftp://x/y"
	bad.TLS.KeyFile = "key.pem"
	bad.Store.Driver, bad.Store.DSN = "oracle", ""
	bad.LoginIdle, bad.HashSlots, bad.MaxSessions = 0, 0, -1
	bad.OIDC = &OIDC{Issuer: "http://id.example", AdminValues: []string{"x"}}
	bad.Consul = &Consul{AdvertiseAddr: "0.0.0.0:443", AdvertiseOps: "x"}
	bad.Backup.Folder, bad.Backup.Every, bad.Backup.Keep = "b", time.Second, 0
	err := bad.Validate()
	for _, want := range []string{"master", "bind_addr", "plain HTTP is served on loopback only", "ops_addr", "public_url", "tls_cert_file", "store_driver", "store_dsn",
		"login_idle", "hash_slots", "max_sessions", "oidc_issuer", "oidc_client_id", "oidc_role_claim", "consul_service", "consul_advertise_addr",
		"consul_advertise_ops", "backup_every", "backup_keep"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no problem named %s in %v", want, err)
		}
	}
	if _, err := New(bad); err == nil {
		t.Error("New takes a bad configuration")
	}
	for addr, fine := range map[string]bool{"127.0.0.1:1": true, "[::1]:1": true, "localhost:1": true, "0.0.0.0:1": false, ":1": false, "192.0.2.1:1": false} {
		c := good
		c.BindAddr, c.PublicURL = addr, "https://desk.example"
		if err := c.Validate(); (err == nil) != fine {
			t.Errorf("plain HTTP on %s: %v", addr, err)
		}
	}
}

// Errors become answers by one table; what is our fault is said to be, without its inside.
func TestRefusalOf(t *testing.T) {
	r, internal := refusalOf(errors.New("secret inside"))
	if !internal || r.Status != 500 || strings.Contains(r.Message, "secret") {
		t.Errorf("unknown error: %+v", r)
	}
	if r, internal := refusalOf(fmt.Errorf("x: %w", store.ErrNameTaken)); internal || r.Status != 409 {
		t.Errorf("taken name: %+v", r)
	}
	if r, internal := refusalOf(fromMaster(errors.New("dial tcp: refused"))); internal || r.Reason != "master_away" || r.RetrySeconds == 0 {
		t.Errorf("absent master: %+v", r)
	}
}
