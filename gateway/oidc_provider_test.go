//go:build integration

package gateway

import (
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/wavry/fleet/gateway/signalapi"
)

// startZitadel runs zitadel's provider (test/engines/oidc) and returns its issuer.
func startZitadel(t *testing.T, redirect string) string {
	t.Helper()
	folder, err := exec.Command("../scripts/engines", "oidc").Output() // builds it the first time
	if err != nil {
		t.Fatalf("build the provider: %v", err)
	}
	_, port, _ := strings.Cut(freePort(t), ":")
	cmd := exec.Command(strings.TrimSpace(string(folder))+"/oidc", "localhost:"+port, redirect)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // nothing of it is kept
		_ = cmd.Wait()
	})
	issuer := "http://localhost:" + port + "/"
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	eventually(t, "the provider answers", func() bool {
		resp, err := client.Get(issuer + ".well-known/openid-configuration")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil && resp.StatusCode == http.StatusOK
	})
	return issuer
}

// follow goes where the redirects lead and returns the last address and page.
func (b *browser) follow(do func(*http.Client) (*http.Response, error)) (*url.URL, string) {
	b.t.Helper()
	client := *b.client
	client.CheckRedirect = nil
	resp, err := do(&client)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp.Request.URL, string(page)
}

// A person signs in through another project's provider: its discovery, its keys, its page with a password, its ID token; and comes back as
// the same account. A password that it refuses leads nowhere.
func TestOIDCProvider(t *testing.T) {
	front := freePort(t)
	o := OIDC{Issuer: startZitadel(t, "http://"+front+signalapi.PathOIDCCallback), ClientID: "web", ClientSecret: "secret", Create: true}
	s := startSite(t, func(c *Config) { c.OIDC, c.BindAddr, c.PublicURL = &o, front, "http://"+front })
	request := regexp.MustCompile(`name="id" value="([^"]+)"`)
	signIn := func(b *browser, password string) (*url.URL, string) {
		t.Helper()
		at, page := b.follow(func(c *http.Client) (*http.Response, error) { return c.Get(s.URL() + signalapi.PathOIDCStart) })
		id := request.FindStringSubmatch(page)
		if id == nil {
			t.Fatalf("no sign-in page at %s: %s", at, page)
		}
		form := url.Values{"id": {id[1]}, "username": {"test-user@localhost"}, "password": {password}}
		return b.follow(func(c *http.Client) (*http.Response, error) { return c.PostForm(at.String(), form) })
	}
	b := s.browser()
	if at, page := signIn(b, "wrong"); at.Host == front {
		t.Fatalf("a wrong password leads to %s: %s", at, page)
	}
	var first signalapi.Me
	for range 2 {
		b = s.browser()
		if at, page := signIn(b, "verysecure"); at.Host != front || at.Path != "/" {
			t.Fatalf("signed in at %s: %s", at, page)
		}
		me := ok[signalapi.Me](b, "GET", signalapi.PathMe, nil)
		if me.Name != "test-user@zitadel.ch" || (first.Name != "" && me != first) {
			t.Fatalf("came as %+v, before as %+v", me, first)
		}
		first = me
	}
}
