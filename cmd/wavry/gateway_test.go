package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/gateway/store"
	"github.com/wavry/fleet/master/identity"
)

// gatewayRun runs one of the gateway's commands and returns exit code and output.
func gatewayRun(t *testing.T, name string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	command, err := gatewayCommands(&environment{stdout: &out, stderr: &errs})[name]()
	if err != nil {
		t.Fatal(err)
	}
	code = command.Run(args)
	return code, out.String(), errs.String()
}

// authorityFile is the file of an authority that signed nobody.
func authorityFile(t *testing.T) string {
	t.Helper()
	_, ca, err := identity.NewAuthority(time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := ca.WriteFiles(dir, "ca"); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "ca.pem")
}

// The configuration is checked as a whole, printed without secrets, and the same from file, environment and flags.
func TestGatewayCheckConfig(t *testing.T) {
	path, ca := filepath.Join(t.TempDir(), "gateway.hcl"), authorityFile(t)
	if err := os.WriteFile(path, []byte(`
master_ca_file     = "`+ca+`"
id                 = "gw-1"
master_addrs       = ["127.0.0.1:7300"]
store_driver       = "postgres"
store_dsn_secret   = "postgres://u:hunter2@db/wavry"
oidc_issuer        = "https://id.example"
oidc_client_id     = "wavry"
oidc_client_secret = "hunter2"
public_url         = "https://desk.example"
`), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("WAVRY_GATEWAY_REGION", "north")
	code, out, errs := gatewayRun(t, "gateway", "-check-config", "-config", path, "-max-sessions", "7")
	if code != 0 || strings.Contains(out, "hunter2") {
		t.Fatalf("exit %d: %s%s", code, out, errs)
	}
	for _, want := range []string{`id = "gw-1"`, `region = "north"`, "max_sessions = 7", `store_dsn_secret = "REDACTED"`, `oidc_client_secret = "REDACTED"`} {
		if !strings.Contains(out, want) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
	code, _, errs = gatewayRun(t, "gateway", "-check-config", "-bind-addr", "0.0.0.0:80", "-login-idle", "soon", "-trusted-proxies", "x", "-master-addrs", "127.0.0.1:1", "-master-ca-file", ca)
	for _, want := range []string{"bind_addr", "login_idle", "trusted_proxies", "public_url"} {
		if code != 1 || !strings.Contains(errs, want) {
			t.Errorf("exit %d without %s: %s", code, want, errs)
		}
	}
	if code, _, errs := gatewayRun(t, "gateway", "-check-config", "-master-addrs", "127.0.0.1:1"); code != 1 || !strings.Contains(errs, "master_ca_file") {
		t.Errorf("a master without a name: exit %d, %s", code, errs)
	}
	if code, _, errs := gatewayRun(t, "gateway", "-check-config", "-master-ca-file", ca); code != 1 || !strings.Contains(errs, "master_addrs") {
		t.Errorf("without a master: exit %d, %s", code, errs)
	}
	if err := os.WriteFile(path, []byte("colour = \"red\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := gatewayRun(t, "gateway", "-check-config", "-config", path); code != 1 || !strings.Contains(errs, "colour") {
		t.Errorf("an unknown key: exit %d, %s", code, errs)
	}
}

// Accounts are managed, backed up, verified and restored from the command line.
func TestGatewayTools(t *testing.T) {
	dir := t.TempDir()
	db, backups := filepath.Join(dir, "gw.sqlite"), filepath.Join(dir, "backups")
	if code, _, errs := gatewayRun(t, "gateway user list", "-store-dsn-secret", db); code != 1 {
		t.Fatalf("a store that is not there was made: %s", errs)
	}
	s, err := store.Open(t.Context(), store.Config{Driver: store.SQLite, DSN: db})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	must := func(name string, args ...string) string {
		t.Helper()
		code, out, errs := gatewayRun(t, name, append(args, "-store-dsn-secret", db)...)
		if code != 0 {
			t.Fatalf("%s %v: exit %d: %s", name, args, code, errs)
		}
		return out
	}
	if link := must("gateway invite", "-name", "ada", "-role", "admin"); !strings.HasPrefix(link, "http://127.0.0.1:7500/"+signalapi.LinkFragment) {
		t.Fatalf("link %q", link)
	}
	must("gateway invite", "-name", "bob")
	must("gateway user disable", "-name", "bob")
	must("gateway user role", "-name", "bob", "-role", "operator")
	if table := must("gateway user list"); !strings.Contains(table, "bob   operator  disabled") {
		t.Fatalf("table\n%s", table)
	}
	var users []signalapi.User
	if err := json.Unmarshal([]byte(must("gateway user list", "-json")), &users); err != nil || len(users) != 2 {
		t.Fatalf("users %+v, %v", users, err)
	}
	if code, _, errs := gatewayRun(t, "gateway user disable", "-name", "ada", "-store-dsn-secret", db); code != 1 || !strings.Contains(errs, "last enabled admin") {
		t.Fatalf("the last admin was disabled: %s", errs)
	}
	if code, _, _ := gatewayRun(t, "gateway user disable", "-name", "nobody", "-store-dsn-secret", db); code != 1 {
		t.Fatal("an account that is not there was disabled")
	}
	must("gateway user enable", "-name", "bob")
	must("gateway user totp", "-name", "bob")

	var report store.Report
	if err := json.Unmarshal([]byte(must("gateway backup", "-out", backups, "-json")), &report); err != nil || report.Users != 2 {
		t.Fatalf("report %+v, %v", report, err)
	}
	must("gateway restore", "-from", report.Path, "-verify")
	if code, _, errs := gatewayRun(t, "gateway restore", "-from", report.Path, "-store-dsn-secret", db); code != 1 || !strings.Contains(errs, "exists") {
		t.Fatalf("a restore replaced the store: %s", errs)
	}
	restored := filepath.Join(dir, "restored.sqlite")
	if code, out, errs := gatewayRun(t, "gateway restore", "-from", report.Path, "-store-dsn-secret", restored); code != 0 || !strings.Contains(out, "2 accounts") {
		t.Fatalf("restore: %d %s%s", code, out, errs)
	}
	if err := os.WriteFile(report.Path, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, _ := gatewayRun(t, "gateway restore", "-from", report.Path, "-verify"); code != 1 {
		t.Fatal("rubbish was verified")
	}
}
