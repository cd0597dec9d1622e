package master

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wavry/fleet/master/identity"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/masterclient"
)

// TestThreeServers proves that any server answers, that a stopped leader is replaced without losing or doubling a lease, that hosts and gateways come
// back by themselves, and that the stopped server rejoins, from another address.
func TestThreeServers(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, nil)
	first := c.leader()
	h := c.host("h1", 100, nil)
	gw, ctx := c.client("t-gateway"), testContext(t)
	for i := range 3 {
		follower, err := masterclient.New(masterclient.Config{Addresses: []string{c.servers[i].cfg.Advertise}, TLS: trusting(t), Token: func() (string, error) { return "t-gateway", nil }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(follower.Close)
		g, err := follower.Sessions().Admit(ctx, request(fmt.Sprint("any", i)))
		if err != nil || g.GetHostId() != "h1" {
			t.Fatalf("through server %d: %v, %v", i, g, err)
		}
	}
	before := mustAdmit(t, c, "before")
	events := watch(t, c)
	c.servers[first].stop(t)
	began := time.Now()
	again, err := gw.Sessions().Admit(ctx, request("before"))
	if err != nil || again.GetLeaseId() != before.GetLeaseId() {
		t.Fatalf("retry at the new leader: %v, %v", again, err)
	}
	t.Logf("answered %s after the leader stopped", time.Since(began).Round(time.Millisecond))
	events.expect(t, masterapi.SessionEvent_KIND_SYNC)
	eventually(t, "host linked to the new leader", h.link.Linked)
	mustAdmit(t, c, "after")
	hosts, err := gw.Fleet().ListHosts(ctx, &masterapi.ListHostsRequest{})
	if err != nil || hosts.GetHosts()[0].GetSlotsUsed() != 5 {
		t.Errorf("slots used: %v, %v", hosts, err)
	}
	c.move(first)
	op := c.client("t-operator")
	eventually(t, "the stopped server is healthy again", func() bool {
		peers, err := op.Operator().ListPeers(ctx, &masterapi.ListPeersRequest{})
		if err != nil || len(peers.GetPeers()) != 3 {
			return false
		}
		for _, p := range peers.GetPeers() {
			if !p.GetHealthy() || !p.GetVoter() {
				return false
			}
		}
		return true
	})
}

// TestMajorityLost proves that a server without a majority is not ready and refuses, and that the cluster recovers with its state.
func TestMajorityLost(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, nil)
	lead := c.leader()
	c.host("h1", 10, nil)
	grant := mustAdmit(t, c, "1")
	for i := range c.servers {
		if i != lead {
			c.servers[i].stop(t)
		}
	}
	eventually(t, "not ready", func() bool { return c.servers[lead].Ready() != nil })
	asker := &http.Client{Transport: &http.Transport{TLSClientConfig: trusting(t)}}
	defer asker.CloseIdleConnections()
	response, err := asker.Get("https://" + c.servers[lead].cfg.Advertise + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err != nil || response.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), "majority") {
		t.Errorf("readyz: %d %s, %v", response.StatusCode, body, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if _, err := c.client("t-gateway").Sessions().Admit(ctx, request("2")); err == nil {
		t.Error("admitted without a majority")
	}
	for i := range c.servers {
		if i != lead {
			c.restart(i)
		}
	}
	c.leader()
	session, err := c.client("t-gateway").Sessions().GetSession(testContext(t), &masterapi.GetSessionRequest{SessionId: grant.GetSessionId()})
	if err != nil || session.GetState() == masterapi.SessionState_SESSION_STATE_ENDED {
		t.Errorf("session after recovery: %v, %v", session, err)
	}
}

// TestSnapshotSaveRestore proves that a saved snapshot brings back a cluster's sessions and keys, and that a broken one changes nothing.
func TestSnapshotSaveRestore(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, func(c *Config) { c.SnapshotThreshold = 20 })
	c.leader()
	c.host("h1", 100, nil)
	op, gw, ctx := c.client("t-operator"), c.client("t-gateway"), testContext(t)
	kept := mustAdmit(t, c, "kept")
	var saved bytes.Buffer
	if err := op.SaveSnapshot(ctx, &saved); err != nil {
		t.Fatal(err)
	}
	lost := mustAdmit(t, c, "lost")
	broken := bytes.Clone(saved.Bytes())
	broken[len(broken)-20] ^= 1
	if _, err := op.RestoreSnapshot(ctx, bytes.NewReader(broken)); !isReason(err, masterapi.Reason_REASON_INVALID_REQUEST) {
		t.Errorf("broken snapshot: %v", err)
	}
	if _, err := gw.Sessions().GetSession(ctx, &masterapi.GetSessionRequest{SessionId: lost.GetSessionId()}); err != nil {
		t.Fatalf("a refused restore changed the state: %v", err)
	}
	if _, err := op.RestoreSnapshot(ctx, bytes.NewReader(saved.Bytes())); err != nil {
		t.Fatal(err)
	}
	if _, err := gw.Sessions().GetSession(ctx, &masterapi.GetSessionRequest{SessionId: lost.GetSessionId()}); !isReason(err, masterapi.Reason_REASON_SESSION_UNKNOWN) {
		t.Errorf("session of after the snapshot: %v", err)
	}
	if _, err := gw.Sessions().GetSession(ctx, &masterapi.GetSessionRequest{SessionId: kept.GetSessionId()}); err != nil {
		t.Errorf("session of before the snapshot: %v", err)
	}
	mustAdmit(t, c, "new")
}

// TestMutualTLS proves that a cluster works with certificates alone, that strangers get nothing but the public keys, and that Raft is closed to them.
func TestMutualTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	authority, ca, err := identity.NewAuthority(time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	files := func(id string) identity.Files {
		parsed, err := identity.Parse(id)
		if err != nil {
			t.Fatal(err)
		}
		pair, err := authority.Issue(parsed, nil, time.Now(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		base := strings.ReplaceAll(id, "/", "-")
		if err := pair.WriteFiles(dir, base); err != nil {
			t.Fatal(err)
		}
		return identity.Files{Authority: filepath.Join(dir, "ca.pem"), Certificate: filepath.Join(dir, base+".pem"), Key: filepath.Join(dir, base+"-key.pem")}
	}
	if err := ca.WriteFiles(dir, "ca"); err != nil {
		t.Fatal(err)
	}
	load := func(id string) *identity.Source {
		s, err := files(id).Load()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	c := startCluster(t, 3, func(c *Config) {
		c.Identity, c.Authenticator = load("master/"+c.ID), nil
	})
	c.leader()
	source := load("gateway/gw1")
	for i := range 3 {
		gw, err := masterclient.New(masterclient.Config{Addresses: []string{c.servers[i].cfg.Advertise}, TLS: source.Client(identity.RoleMaster)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(gw.Close)
		if _, err := gw.Sessions().Admit(testContext(t), request("1")); !isReason(err, masterapi.Reason_REASON_POOL_UNKNOWN) {
			t.Errorf("server %d with a certificate: %v", i, err)
		}
		if _, err := gw.Operator().RemovePeer(testContext(t), &masterapi.RemovePeerRequest{}); !isReason(err, masterapi.Reason_REASON_PERMISSION_DENIED) {
			t.Errorf("server %d, a gateway as operator: %v", i, err)
		}
	}
	address := c.servers[0].cfg.Advertise
	eventually(t, "the first server has the keys", func() bool { return c.servers[0].Ready() == nil })
	raftConfig := source.Client(identity.RoleMaster, "wavry-raft")
	conn, err := tls.Dial("tcp", address, raftConfig)
	if err == nil {
		if _, err = conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !strings.Contains(fmt.Sprint(err), "reset") {
			t.Errorf("raft answered a gateway: %v", err)
		}
		_ = conn.Close()
	}
	stranger := source.Client(identity.RoleMaster)
	stranger.GetClientCertificate = nil
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: stranger}}
	defer client.CloseIdleConnections()
	for path, want := range map[string]int{"KeyService/GetKeySet": 200, "SessionService/ListSessions": 401} {
		// This is also what curl does: JSON over HTTP/1.1.
		response, err := client.Post("https://"+address+"/wavry.master.v1."+path, "application/json", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		var answer map[string]any
		if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || response.StatusCode != want {
			t.Errorf("%s: %d %v, %v", path, response.StatusCode, answer, err)
		}
		_ = response.Body.Close()
	}
}
