package masterlink

import (
	"context"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/wavry/fleet/hostruntime"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/hostruntime/session"
	"github.com/wavry/fleet/hostruntime/transport"
	"github.com/wavry/fleet/master/lease"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/masterclient"
	"github.com/wavry/fleet/relay/relaywire"
)

// A relay opens every BIND that is sent to it, and holds the token in its hands. What it finds there opens no session: a real host, whose circuit
// it carries, refuses it by name over QUIC, and knows it for what it is.
func TestRelayIsNotTheViewer(t *testing.T) {
	t.Parallel()
	f := newFleet(t, lease.Lifetime)
	found := f.thievingRelay("evil")
	host := f.realHost("h2")
	go func() { // ends with its deadline: nobody answers the BIND
		_, _ = f.client("gateway").Sessions().Admit(t.Context(), &masterapi.AdmitRequest{ViewerKey: viewerKey, RequestId: "1", Login: "ada", Pool: "real", ViewerAddress: "127.0.0.1"})
	}()
	var token string
	select {
	case token = <-found:
	case <-time.After(20 * time.Second):
		t.Fatal("the host never bound the relay")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	url := "https://" + host.Addresses()[0].String() + transport.PathSession + token
	conn, err := transport.Dial(ctx, url, shownHashes(ctx, url))
	if err == nil {
		conn.Close()
		t.Fatal("the relay is connected with what it found in a BIND")
	}
	if !strings.Contains(err.Error(), "403") {
		t.Errorf("refused with %v", err)
	}
	if _, err := f.link.cfg.Verifier.KeySet().VerifyViewer(token, time.Now()); err == nil || !strings.Contains(err.Error(), lease.ErrWrongUse.Error()) {
		t.Errorf("it is no viewer's token: %v", err)
	}
}

// shownHashes is the certificate that a host shows to anybody, as an error of the dialer names it.
func shownHashes(ctx context.Context, url string) [][]byte {
	_, err := transport.Dial(ctx, url, nil)
	if err == nil {
		return nil
	}
	_, text, _ := strings.Cut(err.Error(), "has hash ")
	hash, _ := hex.DecodeString(strings.Split(text, ",")[0])
	return [][]byte{hash}
}

// thievingRelay joins the fleet, speaks like a relay, and hands out the tokens of the BINDs that reach it.
func (f *fleet) thievingRelay(id string) <-chan string {
	f.t.Helper()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		f.t.Fatal(err)
	}
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		f.t.Fatal(err)
	}
	public := relaywire.PublicKey(key.PublicKey().Bytes())
	hello := &masterapi.RelayHello{RelayId: id, Region: "eu", BootId: "b", PublicKey: public[:], ControlAddress: socket.LocalAddr().String(), CapacityCircuits: 10}
	link := f.client("relay").NewRelayLink(func() *masterapi.RelayHello { return hello }, func(*masterapi.RelayCommand) {})
	run(f.t, link.Run)
	f.until("the relay is linked", link.Linked)
	found, done := make(chan string, 1), make(chan struct{})
	go func() { // ends when the socket closes
		defer close(done)
		b := make([]byte, 2048)
		for {
			n, err := socket.Read(b)
			if err != nil {
				return
			}
			var bind relaywire.Bind
			if relaywire.ParseBind(b[:n], &bind) != nil {
				continue
			}
			shared, err := relaywire.SharedKey(key, bind.HostKey, public, bind.HostKey)
			if err != nil {
				continue
			}
			if token, ok := relaywire.OpenToken(b[:n], &bind, &shared); ok {
				select {
				case found <- token:
				default:
				}
			}
		}
	}()
	f.t.Cleanup(func() { socket.Close(); <-done })
	return found
}

// realHost is a host with a real viewers' port, linked to the fleet's master, alone in the pool "real".
func (f *fleet) realHost(id string) *hostruntime.Host {
	f.t.Helper()
	_, identity, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.t.Fatal(err)
	}
	verifier, err := masterclient.NewVerifier("")
	if err != nil {
		f.t.Fatal(err)
	}
	link, err := New(Config{Client: f.client("host"), Verifier: verifier, ID: id, Pool: "real", Region: "eu", Identity: identity, Slots: 1})
	if err != nil {
		f.t.Fatal(err)
	}
	host, err := hostruntime.New(hostruntime.Config{
		ID: id, Identity: identity, Bind: netip.MustParseAddrPort("127.0.0.1:0"), Slots: 1, Verify: link.Verify, Observer: link,
		NewSource: func(string) (session.Source, error) { return still{}, nil }, Control: link.Control, Registry: prometheus.NewRegistry(),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	link.Bind(host)
	run(f.t, host.Run)
	run(f.t, link.Run)
	f.until("the real host is linked", link.Linked)
	return host
}

// still is a source without pictures.
type still struct{}

func (still) Run(ctx context.Context, _ session.Sink) error { <-ctx.Done(); return nil }
func (still) Inject(context.Context, *pluginpb.InputBatch) (*pluginpb.Injected, error) {
	return &pluginpb.Injected{}, nil
}
func (still) Resize(context.Context, session.Area) error { return nil }
func (still) Adjust(int, float64)                        {}
func (still) RequestKeyframe()                           {}
