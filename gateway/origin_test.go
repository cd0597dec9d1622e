package gateway

import (
	"net/http"
	"strings"
	"testing"

	"github.com/wavry/fleet/gateway/signalapi"
)

// However an operator writes the address, browsers that come there are served, by the API and by the WebSocket, and strangers are not.
func TestPublicURLInAnyForm(t *testing.T) {
	for _, c := range []struct{ written, browser string }{
		{"https://desk.example:443", "https://desk.example"}, {"HTTPS://Desk.EXAMPLE/", "https://desk.example"}, {"https://desk.example.", "https://desk.example"},
		{"https://BÜRO.example:0443", "https://xn--bro-hoa.example"}, {"https://desk.example:8443", "https://desk.example:8443"},
	} {
		t.Run(c.written, func(t *testing.T) {
			s := startSite(t, func(cfg *Config) { cfg.PublicURL = c.written })
			if s.URL() != c.browser {
				t.Errorf("links begin with %s, want %s", s.URL(), c.browser)
			}
			try := func(method, path, host, origin string, headers ...string) int {
				t.Helper()
				r, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.addr.String()+path, strings.NewReader(`{"link":"none"}`))
				if err != nil {
					t.Fatal(err)
				}
				r.Host = host
				r.Header.Set("Origin", origin)
				r.Header.Set(signalapi.CSRFHeader, "1")
				r.Header.Set("Content-Type", "application/json")
				for i := 0; i < len(headers); i += 2 {
					r.Header.Set(headers[i], headers[i+1])
				}
				resp, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				return resp.StatusCode
			}
			host := strings.TrimPrefix(c.browser, "https://")
			if got := try("POST", signalapi.PathSignIn, host, c.browser); got != 401 { // past the guard: such a link there is not
				t.Errorf("sign-in from %s: %d", c.browser, got)
			}
			if got := try("GET", signalapi.PathSignal, host, c.browser, "Connection", "Upgrade", "Upgrade", "websocket"); got != 401 {
				t.Errorf("WebSocket from %s: %d", c.browser, got)
			}
			if got := try("POST", signalapi.PathSignIn, "evil.example", c.browser); got != 421 {
				t.Errorf("at another host: %d", got)
			}
			if got := try("POST", signalapi.PathSignIn, host, c.browser+":1"); got != 403 {
				t.Errorf("from another port: %d", got)
			}
		})
	}
}
