//go:build integration

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wavry/fleet/gateway/signalapi"
)

// asGateway makes this test's binary the wavry command: a real process that can be killed.
const asGateway = "WAVRY_TEST_AS_GATEWAY"

func init() {
	if os.Getenv(asGateway) != "" {
		os.Exit((&gatewayCommand{&environment{stdout: os.Stdout, stderr: os.Stderr}}).Run(os.Args[1:]))
	}
}

// gatewayProcess is a running `wavry gateway`.
type gatewayProcess struct {
	cmd *exec.Cmd
	mu  sync.Mutex // guards the following
	out bytes.Buffer
}

func (p *gatewayProcess) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func (p *gatewayProcess) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

func startGatewayProcess(t *testing.T, address, folder string) *gatewayProcess {
	t.Helper()
	p := &gatewayProcess{}
	p.cmd = exec.Command(os.Args[0], "-bind-addr", address, "-ops-addr", "", "-id", "gw", "-master-addrs", "127.0.0.1:1", "-master-ca-file", authorityFile(t),
		"-store-dsn-secret", filepath.Join(folder, "gw.sqlite"), "-key-file", filepath.Join(folder, "seal.key"))
	p.cmd.Env = append(os.Environ(), asGateway+"=1")
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.kill() })
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if resp, err := http.Get("http://" + address + "/readyz"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return p
			}
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the gateway does not start:\n%s", p.said())
		case <-tick.C:
		}
	}
}

// kill ends the process with SIGKILL; a second call does nothing.
func (p *gatewayProcess) kill() {
	_ = p.cmd.Process.Kill() // gone already the second time
	_ = p.cmd.Wait()
}

// A gateway process that is killed in the middle of its work keeps what it acknowledged: the account, the login, and that a one-time
// link is spent.
func TestGatewayKilled(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address, folder := l.Addr().String(), t.TempDir()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar, Timeout: 20 * time.Second}
	post := func(path string, body any) int {
		t.Helper()
		data, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequest("POST", "http://"+address+path, bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set(signalapi.CSRFHeader, "1")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode
	}
	p := startGatewayProcess(t, address, folder)
	_, after, _ := strings.Cut(p.said(), signalapi.LinkFragment)
	link, _, found := strings.Cut(after, "\n")
	if !found {
		t.Fatalf("no first admin's link in\n%s", p.said())
	}
	signIn := signalapi.SignIn{Link: link, Name: "root", Password: "a long enough password"}
	if status := post(signalapi.PathSignIn, signIn); status != http.StatusOK {
		t.Fatalf("first admin: %d", status)
	}
	const people = 5
	for i := range people {
		if status := post(signalapi.PathAdminUsers, signalapi.NewUser{Name: fmt.Sprint("p", i), Role: "viewer"}); status != http.StatusOK {
			t.Fatalf("account %d: %d", i, status)
		}
		p.kill()
		p = startGatewayProcess(t, address, folder)
	}
	resp, err := client.Get("http://" + address + signalapi.PathAdminUsers)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var users []signalapi.User
	if err := json.NewDecoder(resp.Body).Decode(&users); err != nil || resp.StatusCode != http.StatusOK || len(users) != people+1 {
		t.Fatalf("after %d kills: %d, %d accounts, %v", people, resp.StatusCode, len(users), err)
	}
	if status := post(signalapi.PathSignIn, signIn); status != http.StatusUnauthorized {
		t.Fatalf("the spent link: %d", status)
	}
	if strings.Contains(p.said(), signalapi.LinkFragment) {
		t.Fatal("a link for a first admin although there is one")
	}
}
