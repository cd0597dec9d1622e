//go:build integration

package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/test/rig"
)

// shell is an operator at a real cluster.
type shell struct {
	*rig.Cluster
	t *testing.T
}

// says runs a command that must succeed and print all of want.
func (s shell) says(want []string, args ...string) string {
	s.t.Helper()
	out, errs, code := s.Exit(nil, args...)
	if code != 0 {
		s.t.Errorf("wavry %s: exit %d: %s", strings.Join(args, " "), code, errs)
	}
	for _, w := range want {
		if !strings.Contains(out, w) {
			s.t.Errorf("wavry %s does not say %q:\n%s", strings.Join(args, " "), w, out)
		}
	}
	return out
}

// json runs a command with -json and returns what it printed.
func (s shell) json(name string, args ...string) map[string]any {
	s.t.Helper()
	all := append(append(strings.Fields(name), "-json"), args...)
	var answer map[string]any
	if err := json.Unmarshal([]byte(s.says(nil, all...)), &answer); err != nil {
		s.t.Errorf("wavry %s: %v", strings.Join(all, " "), err)
	}
	return answer
}

// fails runs a command that must end with the exit code and say want.
func (s shell) fails(code int, want string, args ...string) {
	s.t.Helper()
	out, errs, got := s.Exit(nil, args...)
	if got != code || !strings.Contains(errs, want) || out != "" {
		s.t.Errorf("wavry %s: exit %d, want %d with %q: %s%s", strings.Join(args, " "), got, code, want, errs, out)
	}
}

// Every operator's command works on a cluster with mutual TLS: tables, JSON, exit codes, completion.
func TestOperators(t *testing.T) {
	c := rig.NewCluster(t)
	s := shell{c, t}
	c.Leader()
	m := c.Master()
	admit := func(id string) *masterapi.Grant {
		t.Helper()
		r, err := m.Sessions().Admit(t.Context(), &masterapi.AdmitRequest{ViewerKey: viewerKey, RequestId: id, Login: "ada", ViewerAddress: "127.0.0.1"})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	one := admit("q1")

	t.Run("relay", func(t *testing.T) {
		s := shell{c, t}
		s.says([]string{"RELAY", "r1", "r2", "passing"}, "relay", "list")
		s.says([]string{"Control address"}, "relay", "show", "r1")
		if n := len(s.json("relay list")["relays"].([]any)); n != 2 {
			t.Errorf("%d relays", n)
		}
		// The way back leads through probation from some states.
		for _, step := range [][2]string{{"drain", "drain"}, {"activate", ""}, {"quarantine", "quarantined"}, {"activate", ""}, {"ban", "banned"}} {
			s.says([]string{"relay r2 is " + step[1]}, "relay", step[0], "-reason", "why "+step[0], "r2")
		}
		s.says([]string{"banned", "why ban", "operator/op", "why quarantine"}, "relay", "show", "r2")
		s.fails(2, "There is no such relay", "relay", "drain", "r9")
		s.fails(1, "usage: wavry relay show", "relay", "show")
	})
	t.Run("host", func(t *testing.T) {
		s := shell{c, t}
		s.says([]string{"HOST", "h1", "h2", "software"}, "host", "list")
		s.says([]string{"Encoder", "Slots"}, "host", "show", "h1")
		s.says([]string{"host h1 is drain"}, "host", "drain", "-reason", "kernel", "h1")
		// An empty host is drained at once, which has a reason of its own.
		h := s.json("host show", "h1")
		history, _ := h["history"].([]any)
		if !slices.ContainsFunc(history, func(e any) bool {
			m, _ := e.(map[string]any)
			return m["reason"] == "kernel" && m["actor"] == "operator/op"
		}) {
			t.Errorf("host %v", h)
		}
		s.says([]string{"host h1 is active"}, "host", "activate", "h1")
		s.fails(2, "There is no such host", "host", "show", "h9")
	})
	t.Run("session and lease", func(t *testing.T) {
		s := shell{c, t}
		s.says([]string{one.GetSessionId(), "ada"}, "session", "list")
		s.says([]string{one.GetLeaseId()}, "session", "show", one.GetSessionId())
		s.says([]string{one.GetLeaseId(), one.GetHostId()}, "lease", "list", "-host", one.GetHostId())
		s.says([]string{"Viewer address", "127.0.0.1"}, "lease", "show", one.GetLeaseId())
		s.says([]string{"revoked"}, "lease", "revoke", "-reason", "stolen", one.GetLeaseId())
		if l := s.json("lease show", one.GetLeaseId()); l["state"] != "LEASE_STATE_REVOKED" {
			t.Errorf("lease %v", l)
		}
		two := admit("q2")
		s.says([]string{"ended"}, "session", "end", "-message", "bye", two.GetSessionId())
		s.says([]string{"operator_ended"}, "session", "list", "-all")
		s.fails(2, "There is no such session", "session", "show", "nobody")
		s.fails(2, "There is no such lease", "lease", "revoke", "nothing")
	})
	t.Run("keys", func(t *testing.T) {
		s := shell{c, t}
		s.says([]string{"signing", "next", "rotation"}, "keys", "status")
		s.Eventually("the next key may sign", func() bool { _, _, code := s.Exit(nil, "keys", "rotate"); return code == 0 })
		keys := s.json("keys status")["keys"].([]any)
		old := keys[0].(map[string]any)["keyId"].(string)
		s.says([]string{"revoked"}, "keys", "revoke", "-reason", "leaked", old)
		s.fails(2, "There is no such key", "keys", "revoke", "k-none")
	})
	t.Run("raft", func(t *testing.T) {
		s := shell{c, t}
		s.says([]string{"m1", "m2", "m3", "leader", "follower"}, "operator", "raft", "list-peers")
		s.says([]string{"Leader", "Applied index"}, "operator", "status")
		if _, errs, code := s.Exit(nil, "operator", "raft", "remove-peer", "m9"); code != 2 || errs == "" {
			t.Errorf("removed a stranger: exit %d %s", code, errs)
		}
		s.says([]string{"operator/op", "lease revoke", "relay"}, "operator", "audit")
	})
	t.Run("snapshot", func(t *testing.T) { snapshots(t, shell{c, t}, admit) })
	t.Run("completion", func(t *testing.T) {
		for line, want := range map[string]string{
			"wavry relay show ": "r1\nr2", "wavry host drain ": "h1\nh2", "wavry operator snap": "snapshot", "wavry keys ": "revoke\nrotate\nstatus", "wavry lease list -": "-json",
		} {
			out, _, _ := s.Exit([]string{"COMP_LINE=" + line, fmt.Sprint("COMP_POINT=", len(line))}, "wavry")
			for word := range strings.Lines(want) {
				if !strings.Contains(out, strings.TrimSpace(word)) {
					t.Errorf("%q completes to %q, want %q", line, out, word)
				}
			}
		}
	})
	t.Run("unreachable", func(t *testing.T) {
		_, errs, code := s.Exit([]string{"WAVRY_ADDR=127.0.0.1:1"}, "relay", "list", "-timeout", "1s")
		if code != 1 || errs == "" {
			t.Errorf("exit %d %s", code, errs)
		}
		_, errs, code = s.Exit([]string{"WAVRY_CLIENT_CERT=", "WAVRY_CLIENT_KEY="}, "relay", "list", "-timeout", "1s")
		if code == 0 || errs == "" {
			t.Errorf("without a certificate: exit %d %s", code, errs)
		}
	})
	t.Run("remove-peer", func(t *testing.T) {
		s := shell{c, t}
		gone := map[string]string{"m1": "m2", "m2": "m3", "m3": "m1"}[c.Leader()]
		c.Process(gone).Kill()
		s.Eventually("removed", func() bool {
			_, _, code := s.Exit(nil, "operator", "raft", "remove-peer", gone)
			return code == 0 || !strings.Contains(c.Operator("operator", "raft", "list-peers"), gone)
		})
		if out := s.says(nil, "operator", "raft", "list-peers"); strings.Contains(out, gone) {
			t.Errorf("%s is still a peer:\n%s", gone, out)
		}
	})
	t.Run("a host of its own accord", func(t *testing.T) { shell{c, t}.pendingHost() })
}

// snapshots saves, breaks, inspects and restores one.
func snapshots(t *testing.T, s shell, admit func(string) *masterapi.Grant) {
	kept := admit("kept")
	file := filepath.Join(t.TempDir(), "state.snap")
	s.says([]string{"saved index", "2 relays, 2 hosts"}, "operator", "snapshot", "save", file)
	s.says([]string{"Live leases", "Relays"}, "operator", "snapshot", "inspect", file)
	if info := s.json("operator snapshot inspect", file); info["Hosts"] != 2.0 {
		t.Errorf("snapshot %v", info)
	}
	if info := s.json("operator snapshot save", file); info["Relays"] != 2.0 {
		t.Errorf("saved %v", info)
	}
	lost := admit("lost")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	broken := file + ".broken"
	whole[len(whole)-10] ^= 1
	if err := os.WriteFile(broken, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	s.fails(1, broken, "operator", "snapshot", "restore", broken)
	s.fails(1, broken, "operator", "snapshot", "inspect", broken)
	s.says([]string{lost.GetSessionId()}, "session", "list")
	s.says([]string{"restored"}, "operator", "snapshot", "restore", file)
	if out := s.says([]string{kept.GetSessionId()}, "session", "list", "-all"); strings.Contains(out, lost.GetSessionId()) {
		t.Errorf("a session of after the snapshot is still there:\n%s", out)
	}
	s.Passing("wavry-host", "h1", true)
}
