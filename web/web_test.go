package web_test

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/wavry/fleet/web"
)

func get(t *testing.T, target string, head map[string]string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, target, nil)
	for k, v := range head {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	web.Handler().ServeHTTP(w, r)
	return w.Result()
}

// The page and everything it names are served with their types, and what has a version may be kept.
func TestServesThePageAndWhatItNames(t *testing.T) {
	page := get(t, "/", nil)
	body, _ := io.ReadAll(page.Body)
	if page.StatusCode != http.StatusOK || !strings.HasPrefix(page.Header.Get("Content-Type"), "text/html") {
		t.Fatalf("page: %s %s", page.Status, page.Header.Get("Content-Type"))
	}
	if page.Header.Get("Cache-Control") != "no-cache" || page.Header.Get("Content-Security-Policy") == "" {
		t.Fatalf("page headers: %v", page.Header)
	}
	names := regexp.MustCompile(`(?:src|href)="([^"]+)"`).FindAllStringSubmatch(string(body), -1)
	if len(names) < 3 {
		t.Fatalf("page names only %v", names)
	}
	for _, m := range names {
		r := get(t, "/"+m[1], nil)
		if r.StatusCode != http.StatusOK || r.Header.Get("Content-Type") == "" {
			t.Errorf("%s: %s %q", m[1], r.Status, r.Header.Get("Content-Type"))
		}
		if strings.Contains(m[1], "?v=") != strings.Contains(r.Header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: cache %q", m[1], r.Header.Get("Cache-Control"))
		}
	}
}

// A browser that takes gzip gets the same bytes compressed; one that has them gets none.
func TestCompressesAndRevalidates(t *testing.T) {
	plain, _ := io.ReadAll(get(t, "/app.js", nil).Body)
	r := get(t, "/app.js", map[string]string{"Accept-Encoding": "gzip, br"})
	if r.Header.Get("Content-Encoding") != "gzip" {
		t.Fatal("not compressed")
	}
	z, err := gzip.NewReader(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	unpacked, err := io.ReadAll(z)
	if err != nil || string(unpacked) != string(plain) {
		t.Fatalf("compressed file differs: %v", err)
	}
	if again := get(t, "/app.js", map[string]string{"If-None-Match": r.Header.Get("Etag")}); again.StatusCode != http.StatusNotModified {
		t.Fatalf("revalidation: %s", again.Status)
	}
}

// The app stays below its budget of 80 kB, so that the first picture does not wait for it.
func TestStaysSmall(t *testing.T) {
	total := 0
	for _, name := range []string{"/", "/app.js", "/app.css", "/logo.svg"} {
		b, _ := io.ReadAll(get(t, name, map[string]string{"Accept-Encoding": "gzip"}).Body)
		total += len(b)
	}
	if total == 0 || total > 80<<10 {
		t.Fatalf("the app is %d bytes compressed, at most %d", total, 80<<10)
	}
}

// Nothing but the bundle is served, and nothing is written.
func TestRefusesTheRest(t *testing.T) {
	for _, p := range []string{"/nothing", "/../web.go", "/dist/index.html", "/v1/me"} {
		if r := get(t, p, nil); r.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", p, r.Status)
		}
	}
	w := httptest.NewRecorder()
	web.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
}
