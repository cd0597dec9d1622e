package gateway

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/wavry/fleet/gateway/signalapi"
)

// What is not a request of our own page is refused before anything happens, and nothing crashes on garbage.
func TestRefusesForeignAndGarbage(t *testing.T) {
	s := startSite(t)
	admin := s.admin()
	signIn := `{"name":"root","password":"` + goodPassword + `"}`
	for _, c := range []struct {
		name    string
		status  int
		reason  string
		body    string
		headers []string
	}{
		{"other origin", 403, signalapi.ReasonForbidden, signIn, []string{"Origin", "https://evil.example"}},
		{"null origin", 403, signalapi.ReasonForbidden, signIn, []string{"Origin", "null"}},
		{"other local port", 403, signalapi.ReasonForbidden, signIn, []string{"Origin", "http://127.0.0.1:1"}},
		{"no csrf header", 403, signalapi.ReasonForbidden, signIn, []string{signalapi.CSRFHeader, ""}},
		{"cross site", 403, signalapi.ReasonForbidden, signIn, []string{"Sec-Fetch-Site", "cross-site"}},
		{"rebound name", 421, signalapi.ReasonForbidden, signIn, []string{"Host", "evil.example", "Origin", ""}},
		{"form", 415, signalapi.ReasonBadRequest, "name=root", []string{"Content-Type", "application/x-www-form-urlencoded"}},
		{"empty", 400, signalapi.ReasonBadRequest, "", nil},
		{"cut", 400, signalapi.ReasonBadRequest, signIn[:20], nil},
		{"two values", 400, signalapi.ReasonBadRequest, signIn + signIn, nil},
		{"wrong type", 400, signalapi.ReasonBadRequest, `{"name":7}`, nil},
		{"binary", 400, signalapi.ReasonBadRequest, "\x00\xff\xfe", nil},
		{"deep", 400, signalapi.ReasonBadRequest, strings.Repeat("[", 12000), nil},
		{"too large", 413, signalapi.ReasonBadRequest, `{"name":"` + strings.Repeat("x", maxBody) + `"}`, nil},
		{"long link", 401, signalapi.ReasonLinkUsed, `{"link":"` + strings.Repeat("x", 10000) + `"}`, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := s.browser()
			b.t = t
			b.refused(c.status, c.reason, "POST", signalapi.PathSignIn, c.body, c.headers...)
		})
	}
	admin.refused(http.StatusNotFound, signalapi.ReasonBadRequest, "GET", "/v1/nothing", nil)
	if status, _ := admin.try("GET", "/v1/me", nil, "Cookie", "wavry="+strings.Repeat("x", 5000)); status != http.StatusUnauthorized && status != http.StatusOK {
		t.Fatalf("a long cookie: %d", status)
	}
	if _, _, err := admin.dial("https://evil.example"); err == nil {
		t.Fatal("a WebSocket of another origin was accepted")
	}
	if _, _, err := s.browser().dial(s.URL()); err == nil {
		t.Fatal("a WebSocket without a login was accepted")
	}
}

// Every answer carries the headers that keep other sites away; pages are the web app's.
func TestPagesAndHeaders(t *testing.T) {
	s := startSite(t)
	b := s.browser()
	for path, want := range map[string]struct {
		status int
		cache  string
	}{"/": {200, "no-cache"}, "/app.js?v=1": {200, "public, max-age=31536000, immutable"}, "/missing.js": {404, ""}, "/v1/info": {200, "no-store"}} {
		resp, err := b.client.Get(s.URL() + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		h := resp.Header
		if resp.StatusCode != want.status || (resp.StatusCode == 200 && h.Get("Cache-Control") != want.cache) {
			t.Errorf("%s: %d, %q", path, resp.StatusCode, h.Get("Cache-Control"))
		}
		if !strings.Contains(h.Get("Content-Security-Policy"), "frame-ancestors 'none'") || h.Get("X-Content-Type-Options") != "nosniff" ||
			h.Get("Referrer-Policy") != "no-referrer" || h.Get("Cross-Origin-Opener-Policy") != "same-origin" {
			t.Errorf("%s: headers %v", path, h)
		}
	}
}

// Health is open, metrics are for operators only.
func TestOps(t *testing.T) {
	s := startSite(t)
	b := s.browser()
	for path, want := range map[string]int{s.URL() + "/healthz": 200, s.URL() + "/readyz": 200, s.URL() + "/metrics": 404,
		"http://" + s.OpsAddr() + "/readyz": 200, "http://" + s.OpsAddr() + "/metrics": 200, "http://" + s.OpsAddr() + "/v1/me": 404} {
		resp, err := b.client.Get(path)
		if err != nil {
			t.Fatal(err)
		}
		isMetrics := strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain; version")
		resp.Body.Close()
		if resp.StatusCode != want || isMetrics != (strings.HasSuffix(path, "/metrics") && strings.Contains(path, s.OpsAddr())) {
			t.Errorf("%s: %d, metrics %v", path, resp.StatusCode, isMetrics)
		}
	}
	eventually(t, "the master is seen", s.masterUp.Load)
}

// The metrics' names are an interface: dashboards and alerts use them.
func TestMetricNames(t *testing.T) {
	s := startSite(t)
	b := s.admin()
	b.signal().connect("request-0000000000000001")
	_, body := s.ops(t)
	for _, name := range []string{"wavry_gateway_session_setups_total{result=\"granted\"} 1", "wavry_gateway_session_setup_grant_seconds_bucket",
		"wavry_gateway_session_setup_seconds_bucket", "wavry_gateway_sign_ins_total{method=\"link\",result=\"ok\"} 1", "wavry_gateway_signaling_sockets 1",
		"wavry_gateway_master_up", "wavry_gateway_store_up", "wavry_gateway_backup_last_success_timestamp_seconds", "wavry_gateway_http_requests_total{class="} {
		if !strings.Contains(body, name) {
			t.Errorf("no %s in the metrics", name)
		}
	}
}

func (s *site) ops(t *testing.T) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	s.opsHandler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Code, w.Body.String()
}

// Only trusted proxies may say where a request comes from, and only the last word that none of them wrote counts.
func TestClientAddr(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, c := range []struct{ peer, forwarded, want string }{
		{"192.0.2.1:5", "", "192.0.2.1"}, {"192.0.2.1:5", "198.51.100.7", "192.0.2.1"}, {"10.1.1.1:5", "", "10.1.1.1"},
		{"10.1.1.1:5", "198.51.100.7", "198.51.100.7"}, {"10.1.1.1:5", "1.1.1.1, 198.51.100.7, 10.2.2.2", "198.51.100.7"},
		{"10.1.1.1:5", "garbage", "10.1.1.1"}, {"[fd00::1]:5", "::ffff:198.51.100.7", "198.51.100.7"}, {"[::ffff:10.1.1.1]:5", "2001:db8::5", "2001:db8::5"},
		{"@", "198.51.100.7", "invalid IP"},
		{"10.1.1.1:5", "198.51.100.9:51234", "198.51.100.9"}, {"10.1.1.1:5", "[2001:db8::5]:443", "2001:db8::5"}, {"10.1.1.1:5", "[2001:db8::5]", "2001:db8::5"},
		{"10.1.1.1:5", "1.1.1.1:1, 198.51.100.7:2, 10.2.2.2:3", "198.51.100.7"}, {"10.1.1.1:5", "[2001:db8::5", "10.1.1.1"}, {"10.1.1.1:5", "198.51.100.7:x", "10.1.1.1"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = c.peer
		if c.forwarded != "" {
			r.Header.Set("X-Forwarded-For", c.forwarded)
		}
		got, odd := clientAddr(r, trusted, XForwardedFor)
		if got.String() != c.want {
			t.Errorf("%s via %q: %s, want %s", c.peer, c.forwarded, got, c.want)
		}
		if understood := c.forwarded == "" || got.String() != "10.1.1.1"; understood != (odd == "") {
			t.Errorf("%s via %q: not understood %q", c.peer, c.forwarded, odd)
		}
	}
}

// Before Run has opened the store the handler refuses politely instead of failing.
func TestHandlerBeforeRun(t *testing.T) {
	g, err := New(testConfig(t, startFleet(t)))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{"/v1/me": 503, "/readyz": 503, "/healthz": 200, "/v1/signal": 503} {
		w := httptest.NewRecorder()
		g.Handler().ServeHTTP(w, httptest.NewRequest("GET", "http://localhost"+path, nil))
		if w.Code != want {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
	}
}
