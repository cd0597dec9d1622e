//go:build integration

package fleet_test

import (
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/wavry/fleet/test/browser"
)

// balancer is the one address that people know, as a load balancer before the gateways has it.
type balancer struct{ net.Listener }

// listen opens the balancer, which the gateways are told as their public URL.
func listen(t *testing.T) *balancer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // serve may have closed it
	return &balancer{l}
}

func (b *balancer) url() string { return "http://" + b.Addr().String() }

// serve sends each connection to one of the gateways that pass in Consul, until the test ends.
func (b *balancer) serve(r *rigged) {
	var work errgroup.Group
	work.Go(func() error {
		for {
			c, err := b.Accept()
			if err != nil {
				return nil // closed
			}
			work.Go(func() error {
				defer c.Close()
				return b.pass(r, c)
			})
		}
	})
	r.t.Cleanup(func() {
		_ = b.Close() // nothing is lost
		_ = work.Wait()
	})
}

func (b *balancer) pass(r *rigged, c net.Conn) error {
	gateways, err := r.Instances("wavry-gateway")
	if err != nil || len(gateways) == 0 {
		return err // the browser tries again
	}
	g := gateways[rand.IntN(len(gateways))].Service
	up, err := net.Dial("tcp", net.JoinHostPort(g.Address, strconv.Itoa(g.Port)))
	if err != nil {
		return err // it has just gone; likewise
	}
	defer up.Close()
	var both errgroup.Group
	for _, way := range [][2]net.Conn{{c, up}, {up, c}} {
		both.Go(func() error {
			_, err := io.Copy(way[0], way[1])
			_, _ = c.Close(), up.Close() // the end of one way is the end of both
			return err
		})
	}
	return both.Wait()
}

// open signs somebody in through the balancer and waits for the desktop.
func (b *balancer) open(r *rigged, name, pool string) *browser.Page {
	r.t.Helper()
	link, err := r.Invite(r.t.Context(), "node-gnome", name, "admin")
	r.must(err)
	_, secret, _ := strings.Cut(link, "#")
	p := browser.New(r.t, 640, 480)
	p.OpenInvite(b.url() + "/#" + secret + "&to=/desktop/" + pool)
	p.Live()
	return p
}
