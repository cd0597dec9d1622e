//go:build integration

package gateway

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// startPebble runs Let's Encrypt's test authority, which asks tlsPort of localhost for its challenges, and returns its directory and
// the PEM file that vouches for it. Without the binary the test is skipped, saying so:
// go install github.com/letsencrypt/pebble/v2/cmd/pebble@v2.8.0
func startPebble(t *testing.T, tlsPort int) (directory, roots string) {
	t.Helper()
	path, err := exec.LookPath("pebble")
	if err != nil {
		t.Skip("pebble is not in PATH")
	}
	dir := t.TempDir()
	cert, key := writeCert(t, dir, 1, time.Now())
	ports := freePorts(t, 3)
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": fmt.Sprint("127.0.0.1:", ports[0]), "managementListenAddress": fmt.Sprint("127.0.0.1:", ports[1]),
		"certificate": cert, "privateKey": key, "httpPort": ports[2], "tlsPort": tlsPort,
		"profiles": map[string]any{"default": map[string]any{"description": "test", "validityPeriod": 7776000}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "pebble.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-config", file)
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // nothing of it is kept
		_ = cmd.Wait()
	})
	directory = fmt.Sprintf("https://localhost:%d/dir", ports[0])
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	eventually(t, "pebble answers", func() bool {
		resp, err := client.Get(directory)
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
	return directory, cert
}

// A gateway that was told a name gets a certificate for it through its own listener, and keeps it over a restart.
func TestACME(t *testing.T) {
	ports := freePorts(t, 1)
	address := fmt.Sprint("127.0.0.1:", ports[0])
	directory, roots := startPebble(t, ports[0])
	folder := t.TempDir()
	s := startSite(t, func(c *Config) {
		c.BindAddr, c.PublicURL = address, "https://localhost:"+fmt.Sprint(ports[0])
		c.TLS = TLS{ACMEDomains: []string{"localhost"}, ACMEEmail: "ops@example.org", ACMEDirectory: directory, ACMEFolder: folder, ACMERoots: roots}
	})
	serial := func() (text string) {
		conn, err := tls.Dial("tcp", address, &tls.Config{ServerName: "localhost", InsecureSkipVerify: true})
		if err != nil {
			return ""
		}
		defer conn.Close()
		leaf := conn.ConnectionState().PeerCertificates[0]
		if !strings.Contains(leaf.Issuer.CommonName, "Pebble") || leaf.VerifyHostname("localhost") != nil {
			t.Fatalf("certificate of %q for %v", leaf.Issuer.CommonName, leaf.DNSNames)
		}
		return leaf.SerialNumber.String()
	}
	eventually(t, "a certificate", func() bool { return serial() != "" })
	first := serial()
	s.stop()
	next := runSite(t, s.fleet, s.cfg)
	eventually(t, "the same certificate", func() bool { return serial() == first })
	next.stop()
}
