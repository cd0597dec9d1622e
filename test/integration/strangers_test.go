//go:build integration

package integration

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/test/rig"
)

// stranger runs a shell command as an unprivileged user of this machine, who has nothing but what everybody may reach.
func stranger(t *testing.T, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs", "bash", "-c", script)
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
	return string(out) // most of what a stranger tries fails, as it should
}

// listening are the TCP ports on which a process listens.
func listening(t *testing.T, pid int) (ports []string) {
	t.Helper()
	own := map[string]bool{}
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil { // it may be closed by now
			own[target] = true
		}
	}
	for _, table := range []string{"tcp", "tcp6"} {
		file, err := os.Open(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		for lines := bufio.NewScanner(file); lines.Scan(); {
			f := strings.Fields(lines.Text())
			if len(f) < 10 || f[3] != "0A" || !own["socket:["+f[9]+"]"] {
				continue
			}
			port, err := strconv.ParseUint(f[1][strings.LastIndex(f[1], ":")+1:], 16, 16)
			if err != nil {
				t.Fatal(err)
			}
			ports = append(ports, strconv.FormatUint(port, 10))
		}
	}
	return slices.Compact(slices.Sorted(slices.Values(ports)))
}

// Another user of the machine is a stranger to `wavry dev`: no port of it speaks Raft with him, the API knows nobody without a certificate, and the one
// certificate that is written is the starter's alone.
func TestDevStrangers(t *testing.T) {
	state := t.TempDir()
	dev := rig.Start(t, nil, "dev", "-desktop", "test", "-http-addr", "127.0.0.1:0", "-state-dir", state)
	dev.SignIn()
	ports := listening(t, dev.PID())
	if len(ports) < 2 {
		t.Fatalf("dev listens on %v", ports)
	}
	for _, port := range ports {
		// AppendEntries of a leader with a high term, after the byte that once meant Raft.
		said := stranger(t, `exec 3<>/dev/tcp/127.0.0.1/`+port+`; printf '\x01\x00\x82\xafProtocolVersion\x03\xa4Term\x7f' >&3; timeout 2 cat <&3`)
		if strings.Contains(said, "LastLog") {
			t.Errorf("port %s: Raft answered a stranger: %q", port, said)
		}
		const call = `-H 'Content-Type: application/json' -d '{"reason":"mine"}' /wavry.master.v1.`
		for _, scheme := range []string{"http", "https"} {
			for _, procedure := range []string{"FleetService/ListHosts", "OperatorService/ListPeers", "SessionService/ListSessions", "KeyService/Rotate"} {
				said := stranger(t, `curl -sk --max-time 5 -o /dev/null -w '%{http_code}' `+strings.Replace(call, "/wavry", scheme+"://127.0.0.1:"+port+"/wavry", 1)+procedure)
				if strings.HasPrefix(said, "200") {
					t.Errorf("%s on port %s answered a stranger: %s", procedure, port, said)
				}
			}
		}
	}
	if said := stranger(t, "cat "+state+"/operator-key.pem "+state+"/master.kek "+state+"/operator.env"); strings.Contains(said, "PRIVATE") || strings.Contains(said, "WAVRY_") {
		t.Errorf("a stranger reads %q", said)
	}
	environ := operatorEnviron(t, state)
	list := exec.Command(rig.Bin(t, "wavry"), "host", "list")
	list.Env = append(os.Environ(), environ...)
	if out, err := list.CombinedOutput(); err != nil || !strings.Contains(string(out), "dev") {
		t.Errorf("the starter is no operator: %v: %s", err, out)
	}
	// The API's port is up and is TLS: what was refused above was refused, not missed.
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	address := strings.TrimPrefix(environ[0], "WAVRY_ADDR=")
	response, err := client.Post("https://"+address+"/wavry.master.v1.FleetService/ListHosts", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusUnauthorized {
		t.Errorf("ListHosts without credentials: %d", response.StatusCode)
	}
}

// operatorEnviron is what `wavry dev` wrote for its starter.
func operatorEnviron(t *testing.T, state string) []string {
	t.Helper()
	for _, name := range []string{"operator.env", "operator-key.pem"} {
		info, err := os.Stat(filepath.Join(state, name))
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode != 0o600 {
			t.Errorf("%s has mode %o", name, mode)
		}
	}
	text, err := os.ReadFile(filepath.Join(state, "operator.env"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(text))
}

// pendingHost joins a host with a good certificate that names a pool nobody gave it: it gets no session until an operator approves, and is told why.
func (s shell) pendingHost() {
	s.t.Helper()
	evil := s.Join("host", "evil", "-capture", "capture-test", "-pool", "desk", "-drain-timeout", "1s")
	defer evil.Stop()
	listed := func(word string) func() bool {
		return func() bool {
			out, _, code := s.Exit(nil, "host", "list", "-pool", "desk")
			return code == 0 && strings.Contains(out, "evil") && strings.Contains(out, word)
		}
	}
	s.Eventually("the host is pending", listed("pending"))
	s.says([]string{"no rule of host_rules allows that"}, "host", "list", "-pool", "desk")
	s.says([]string{"nobody"}, "host", "show", "evil")
	request := func(id string) *masterapi.AdmitRequest {
		return &masterapi.AdmitRequest{ViewerKey: viewerKey, RequestId: id, Login: "ada", Pool: "desk", ViewerAddress: "127.0.0.1", DirectOnly: true}
	}
	m := s.Master()
	var refused *masterapi.RefusedError
	if g, err := m.Sessions().Admit(s.t.Context(), request("evil1")); !errors.As(err, &refused) || refused.Reason != masterapi.Reason_REASON_NO_FREE_HOST {
		s.t.Errorf("the pending host got a session: %v, %v", g, err)
	}
	s.fails(2, "wavry host approve", "host", "activate", "evil")
	s.fails(1, "nothing is approved", "host", "approve", "-pool", "default", "evil")
	s.says([]string{"host evil is active"}, "host", "approve", "-pool", "desk", "-reason", "rack 4", "evil")
	s.says([]string{"operator/op", "pool desk"}, "host", "show", "evil")
	s.Eventually("the approved host takes a session", func() bool {
		g, err := m.Sessions().Admit(s.t.Context(), request("evil2"))
		return err == nil && g.GetHostId() == "evil"
	})
	// It was stolen after all.
	linked := func() bool {
		health, _ := s.json("host show", "evil")["health"].(map[string]any)
		return health["linked"] == true
	}
	if !linked() {
		s.t.Error("the approved host is not linked")
	}
	began := time.Now()
	s.says([]string{"host/evil is revoked"}, "operator", "cert", "revoke", "-reason", "stolen", "host/evil")
	s.Eventually("the revoked host's link is cut", func() bool { return !linked() })
	if took := time.Since(began); took > 2*time.Second {
		s.t.Errorf("the revoked host was cut after %s", took)
	}
	s.says([]string{"host/evil", "operator/op", "stolen"}, "operator", "cert", "list")
}
