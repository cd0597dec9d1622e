package master

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/wavry/fleet/master/identity"
)

// raftHeartbeat is what Raft's transport sends to replicate: the kind of call and AppendEntries of a leader with a high term, as msgpack.
var raftHeartbeat = "\x00\x82\xafProtocolVersion\x03\xa4Term\x7f"

// TestPlaintextIsNobody proves that a local process without a certificate cannot speak Raft, alone or in a cluster: the port answers nothing but TLS.
func TestPlaintextIsNobody(t *testing.T) {
	t.Parallel()
	for name, servers := range map[string]int{"one server": 1, "three servers": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := startCluster(t, servers, func(c *Config) { c.DataDir = t.TempDir() })
			leader := c.leader()
			for _, greeting := range []string{"\x01", ""} { // the byte that once meant Raft in plaintext
				conn, err := net.Dial("tcp", c.servers[leader].cfg.Advertise)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
					t.Fatal(err)
				}
				if _, err := io.WriteString(conn, greeting+raftHeartbeat); err != nil {
					t.Fatal(err)
				}
				answer, err := io.ReadAll(conn)
				if strings.Contains(string(answer), "Term") {
					t.Errorf("greeting %q: Raft answered %q, %v", greeting, answer, err)
				}
			}
			if c.servers[leader].Master.leader.Load() == nil {
				t.Error("a stranger's heartbeat deposed the leader")
			}
		})
	}
}

// TestAloneSpeaksNoRaft proves that one server offers no Raft even to a certificate of role master, and takes no second server in.
func TestAloneSpeaksNoRaft(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1, func(c *Config) { c.DataDir = t.TempDir() })
	c.leader()
	conn, err := tls.Dial("tcp", c.servers[0].cfg.Advertise, certificate(t, identity.RoleMaster, "m2").Client(identity.RoleMaster, "wavry-raft"))
	if err == nil {
		t.Errorf("a lone server negotiated %q", conn.ConnectionState().NegotiatedProtocol)
		_ = conn.Close()
	}
}

// TestMetricsAreApart proves that who reaches the API does not read the metrics, and that the operators' port has them.
func TestMetricsAreApart(t *testing.T) {
	t.Parallel()
	ops := "127.0.0.1:" + freePort(t)
	c := startCluster(t, 1, func(c *Config) { c.OpsAddr = ops })
	c.leader()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: trusting(t), DisableKeepAlives: true}}
	get := func(url string) (int, string) {
		response, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(body)
	}
	api := "https://" + c.servers[0].cfg.Advertise
	if code, body := get(api + "/metrics"); code == http.StatusOK || strings.Contains(body, "wavry_master_") {
		t.Errorf("the API's port serves metrics to strangers: %d", code)
	}
	if code, _ := get(api + "/readyz"); code != http.StatusOK {
		t.Errorf("the API's /readyz: %d", code)
	}
	for path, want := range map[string]int{"/metrics": 200, "/readyz": 200, "/healthz": 204, "/wavry.master.v1.FleetService/ListHosts": 404} {
		if code, _ := get("http://" + ops + path); code != want {
			t.Errorf("ops_addr %s: %d, want %d", path, code, want)
		}
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// TestNoMasterWithoutCertificate proves that the configuration of a master without a certificate is refused, on loopback too.
func TestNoMasterWithoutCertificate(t *testing.T) {
	cfg := DefaultConfig()
	cfg.ID = "m1"
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "wavry tls cert master/m1") {
		t.Errorf("got %v", err)
	}
}
