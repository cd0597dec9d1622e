package gateway

import (
	"bytes"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/wavry/fleet/gateway/signalapi"
)

var testProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}

func viaProxy(header ProxyHeader, values map[string]string) (string, string) {
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = "10.1.1.1:5"
	for k, v := range values {
		r.Header.Set(k, v)
	}
	addr, odd := clientAddr(r, testProxies, header)
	return addr.String(), odd
}

// RFC 7239 as proxies write it, and as strangers do: what stands before the proxy's own element changes nothing.
func TestForwarded(t *testing.T) {
	const proxy, person = "10.1.1.1", "198.51.100.9"
	for text, want := range map[string]string{
		"for=198.51.100.9": person, "For=198.51.100.9;proto=https;by=203.0.113.43": person, "by=_x; FOR=198.51.100.9": person,
		`by=10.1.1.1; for="198.51.100.9:51234"; host="a,b;for=1.1.1.1"`: person, `for="198.51.100.9:_gate"`: person, "for=198.51.100.9:51234": person,
		`for="[2001:db8::5]:443"`: "2001:db8::5", `for="[2001:db8::5]"`: "2001:db8::5", `for="\[2001:db8::5\]"`: "2001:db8::5", `for="[::ffff:198.51.100.9]"`: person,
		"for=1.1.1.1, for=198.51.100.9, for=10.2.2.2": person, "for=1.1.1.1,for=198.51.100.9 , ,": person,
		`for=", for=198.51.100.9`: person, `for=1.1.1.1;x=", for=198.51.100.9`: person, `for=1.1.1.1\, for="198.51.100.9"`: person, `x="\", for=198.51.100.9`: person,
		`",for=1.1.1.1`: "1.1.1.1", "garbage, for=198.51.100.9": person,
		"for=unknown": proxy, "for=_hidden": proxy, "proto=https": proxy, "garbage": proxy, "for=": proxy, `for="`: proxy, `for="198.51.100.9`: proxy, `for="198.51.100.9\`: proxy,
		"for=198.51.100.9;for=1.1.1.1": proxy, "for=198.51.100.9 x": proxy, `for="198.51.100.9"x`: proxy, "for=198.51.100.9, for=unknown": proxy, "=198.51.100.9": proxy, "198.51.100.9": proxy,
	} {
		if got, odd := viaProxy(Forwarded, map[string]string{"Forwarded": text}); got != want || (got == proxy) != (odd != "") {
			t.Errorf("%s: %s (not understood %q), want %s", text, got, odd, want)
		}
	}
	both := map[string]string{"Forwarded": "for=198.51.100.1", "X-Forwarded-For": "198.51.100.2"}
	if got, odd := viaProxy(Forwarded, both); got != "198.51.100.1" || odd != "" {
		t.Errorf("both, the proxy sets Forwarded: %s, %q", got, odd)
	}
	if got, odd := viaProxy(XForwardedFor, both); got != "198.51.100.2" || odd != "" {
		t.Errorf("both, the proxy sets X-Forwarded-For: %s, %q", got, odd)
	}
	for header, value := range map[ProxyHeader]string{XForwardedFor: "198.51.100.2", Forwarded: "for=198.51.100.1"} {
		if got, odd := viaProxy(header.other(), map[string]string{string(header): value}); got != proxy || odd == "" {
			t.Errorf("only %s: %s, %q", header, got, odd)
		}
	}
}

// A header that was cut is the whole one, a shorter address that stands there, or not understood; never anything else.
func TestForwardedCut(t *testing.T) {
	const whole = `for="[2001:db8::5]:443";proto=https, for="10.2.2.2:1";by="10.1.1.1"`
	for i := range whole {
		got, _ := viaProxy(Forwarded, map[string]string{"Forwarded": whole[:i]})
		if got != "10.1.1.1" && got != "10.2.2.2" && got != "2001:db8::5" {
			t.Errorf("%s: %s", whole[:i], got)
		}
	}
}

// Whatever a stranger writes first, the element that the proxy adds is what counts.
func FuzzForwarded(f *testing.F) {
	for _, s := range []string{"", "for=1.1.1.1", `for="`, `x="\`, `",",`, "\\", `for="[::1]:1";by=_x`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, stranger string) {
		for _, added := range []string{`, for=198.51.100.9`, `, for="198.51.100.9:5";host="x"`} {
			if got, odd := viaProxy(Forwarded, map[string]string{"Forwarded": stranger + added}); got != "198.51.100.9" || odd != "" {
				t.Fatalf("%q + %q: %s, %q", stranger, added, got, odd)
			}
		}
		viaProxy(Forwarded, map[string]string{"Forwarded": stranger})
		if got, _ := viaProxy(XForwardedFor, map[string]string{"X-Forwarded-For": stranger + ", 198.51.100.9:5"}); got != "198.51.100.9" {
			t.Fatalf("%q: %s", stranger, got)
		}
	})
}

// What a trusted proxy says and nobody understands is told once and counted each time, on a running gateway.
func TestOddProxyIsTold(t *testing.T) {
	var log bytes.Buffer
	s := startSite(t, func(cfg *Config) {
		cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
		cfg.TrustedProxyHeader = Forwarded
		cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	b := s.browser()
	for _, headers := range [][]string{{"Forwarded", "for=unknown"}, {"Forwarded", "for=_x"}, {"X-Forwarded-For", "198.51.100.7"}, {"Forwarded", "for=198.51.100.7"}} {
		b.refused(401, signalapi.ReasonLinkUsed, "POST", signalapi.PathSignIn, `{"link":"none"}`, headers...)
	}
	if _, body := s.ops(t); !strings.Contains(body, "wavry_gateway_forwarded_not_understood_total 3\n") {
		t.Errorf("not counted three times:\n%s", body)
	}
	s.stop()
	if n := strings.Count(log.String(), "trusted_proxy_header=forwarded"); n != 1 {
		t.Errorf("told %d times:\n%s", n, log.String())
	}
}
