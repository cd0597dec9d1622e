//go:build integration

package gateway

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const pebbleTool = "github.com/letsencrypt/pebble/v2/cmd/pebble@v2.10.1"

// authority is Pebble, Let's Encrypt's test authority.
type authority struct {
	t     *testing.T
	args  []string
	port  int
	roots string // the PEM file that vouches for it
	cmd   *exec.Cmd
}

// newAuthority prepares an authority that asks tlsPort of a name for its challenges and whose certificates are valid for so long.
// It gives none for the blocked names.
func newAuthority(t *testing.T, tlsPort int, valid time.Duration, blocked ...string) *authority {
	t.Helper()
	dir := t.TempDir()
	cert, key := writeCert(t, dir, 1, time.Now())
	ports := freePorts(t, 2)
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": fmt.Sprint("127.0.0.1:", ports[0]), "certificate": cert, "privateKey": key, "httpPort": ports[1], "tlsPort": tlsPort,
		"domainBlocklist": blocked,
		"profiles":        map[string]any{"default": map[string]any{"description": "test", "validityPeriod": int(valid.Seconds())}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "pebble.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	return &authority{t: t, port: ports[0], roots: cert, args: []string{"../scripts/tool", pebbleTool, "-config", file}}
}

func (a *authority) directory() string { return fmt.Sprintf("https://localhost:%d/dir", a.port) }

func (a *authority) up() {
	a.t.Helper()
	if out, err := exec.Command(a.args[0], a.args[1], "-version").CombinedOutput(); err != nil { // builds it the first time
		a.t.Fatalf("build %s: %v: %s", pebbleTool, err, out)
	}
	a.cmd = exec.Command(a.args[0], a.args[1:]...)
	a.cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0")
	if err := a.cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(a.down)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	eventually(a.t, "the authority answers", func() bool {
		resp, err := client.Get(a.directory())
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
}

func (a *authority) down() {
	_ = a.cmd.Process.Kill() // nothing of it is kept
	_ = a.cmd.Wait()         // the second time it has been waited for
}

// acmeSite is the configuration of a gateway at address that gets its certificates from the authority.
func (a *authority) acmeSite(port int, log *logBuffer, name string) func(*Config) {
	folder := a.t.TempDir()
	return func(c *Config) {
		c.BindAddr, c.PublicURL, c.Logger = fmt.Sprint("127.0.0.1:", port), "https://localhost:"+fmt.Sprint(port), slog.New(slog.NewTextHandler(log, nil))
		c.TLS = TLS{ACMEDomains: []string{name}, ACMEEmail: "ops@example.org", ACMEDirectory: a.directory(), ACMEFolder: folder, ACMERoots: a.roots,
			recheck: 100 * time.Millisecond}
	}
}

// logBuffer keeps what a gateway logs.
type logBuffer struct {
	mu   sync.Mutex // guards the following
	text bytes.Buffer
}

// Write implements io.Writer.
func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// hasLine reports whether one line has all the parts.
func (l *logBuffer) hasLine(parts ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.SplitSeq(l.text.String(), "\n") {
		if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) }) {
			return true
		}
	}
	return false
}

// serial is the number of the certificate that is served for localhost, empty when there is none. It must be the authority's.
func serial(t *testing.T, port int) string {
	t.Helper()
	conn, err := tls.Dial("tcp", fmt.Sprint("127.0.0.1:", port), &tls.Config{ServerName: "localhost", InsecureSkipVerify: true})
	if err != nil {
		return ""
	}
	defer conn.Close()
	leaf := conn.ConnectionState().PeerCertificates[0]
	if !strings.Contains(leaf.Issuer.CommonName, "Pebble") || leaf.VerifyHostname("localhost") != nil || time.Now().After(leaf.NotAfter) {
		t.Fatalf("certificate of %q for %v until %s", leaf.Issuer.CommonName, leaf.DNSNames, leaf.NotAfter)
	}
	return leaf.SerialNumber.String()
}

// A gateway that was told a name gets a certificate for it through its own listener and serves people with it; it keeps it over a restart,
// also when the authority is away then.
func TestACME(t *testing.T) {
	port := freePorts(t, 1)[0]
	a := newAuthority(t, port, 90*24*time.Hour)
	a.up()
	s := startSite(t, a.acmeSite(port, &logBuffer{}, "localhost"))
	eventually(t, "a certificate", func() bool { return serial(t, port) != "" })
	first := serial(t, port)
	b := s.browser()
	b.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
	if status, body := b.try("GET", pathReady, nil); status != http.StatusOK {
		t.Fatalf("%s: %d %s", pathReady, status, body)
	}
	s.stop()
	a.down()
	next := runSite(t, s.fleet, s.cfg)
	eventually(t, "the same certificate", func() bool { return serial(t, port) == first })
	next.stop()
}

// A certificate is renewed without a restart, and the one before is served until then: serial fails when it finds an expired one.
func TestACMERenews(t *testing.T) {
	port := freePorts(t, 1)[0]
	a := newAuthority(t, port, 15*time.Second)
	a.up()
	startSite(t, a.acmeSite(port, &logBuffer{}, "localhost"))
	seen := map[string]bool{}
	eventually(t, "a second certificate", func() bool {
		if n := serial(t, port); n != "" {
			seen[n] = true
		} else if len(seen) > 0 {
			t.Fatal("a certificate went away")
		}
		return len(seen) > 1
	})
}

// An authority that is away when the first certificate is needed ends nothing: the log says what to look at, and the next try, here at a
// restart, gets it.
func TestACMEAuthorityAway(t *testing.T) {
	port := freePorts(t, 1)[0]
	a := newAuthority(t, port, 90*24*time.Hour)
	log := &logBuffer{}
	s := startSite(t, a.acmeSite(port, log, "localhost"))
	eventually(t, "an error that says what to do", func() bool { return log.hasLine("name=localhost", "check that this machine reaches acme_directory") })
	s.stop()
	a.up()
	runSite(t, s.fleet, s.cfg)
	eventually(t, "a certificate", func() bool { return serial(t, port) != "" })
}

// A challenge that cannot reach us and a name that the authority refuses are errors that say what to do; the gateway serves on.
func TestACMERefused(t *testing.T) {
	for _, c := range []struct {
		name, domain string
		elsewhere    int // 1: the challenge goes to a port where nobody is
		blocked      []string
		says         []string
	}{
		{"unroutable", "localhost", 1, nil, []string{"Failed to connect", "port 443 of the name"}},
		{"wrong name", "desk.example", 0, []string{"desk.example"}, []string{"acme:error:rejectedIdentifier", "correct acme_domains"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ports := freePorts(t, 2)
			a := newAuthority(t, ports[c.elsewhere], 90*24*time.Hour, c.blocked...)
			a.up()
			log := &logBuffer{}
			s := startSite(t, a.acmeSite(ports[0], log, c.domain))
			eventually(t, "an error that says what to do", func() bool { return log.hasLine(append(c.says, "name="+c.domain)...) })
			resp, err := http.Get("http://" + s.OpsAddr() + pathReady)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Fatalf("%s: %d", pathReady, resp.StatusCode)
			}
		})
	}
}
