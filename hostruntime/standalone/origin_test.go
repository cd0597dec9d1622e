package standalone

import (
	"net/http/httptest"
	"testing"
)

// A proxy in front may add the port, a person may write capitals or a dot: it stays the same origin. Another port or name does not.
func TestSameOrigin(t *testing.T) {
	for _, c := range []struct {
		origin, host string
		want         bool
	}{
		{"", "desk.example", true}, {"https://desk.example", "Desk.Example:443", true}, {"https://desk.example.", "desk.example", true},
		{"https://xn--bro-hoa.example", "xn--bro-hoa.example:443", true}, {"http://127.0.0.1:9000", "127.0.0.1:9000", true},
		{"null", "desk.example", false}, {"https://desk.example", "desk.example:8443", false}, {"https://evil.example", "desk.example", false},
	} {
		r := httptest.NewRequest("POST", "/", nil)
		r.Host = c.host
		r.Header.Set("Origin", c.origin)
		if c.origin == "" {
			r.Header.Del("Origin")
		}
		if got := sameOrigin(r); got != c.want {
			t.Errorf("%q at %q: %v", c.origin, c.host, got)
		}
	}
}
