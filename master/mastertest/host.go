// Package mastertest is a host as the masters see it, for tests and benchmarks that need one which answers: it has an identity, keeps its link
// and prepares every session at once. It shows no pictures.
package mastertest

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/masterclient"
)

// reportEvery is how often a host reports its load, as often as a real one or more.
const reportEvery = 500 * time.Millisecond

// Host is one host. Its link is the caller's to look at.
type Host struct {
	Link *masterclient.HostLink
}

// NewHost makes a host of hello, whose identity is made here. observe, which may be nil, is shown each command before it is answered.
func NewHost(client *masterclient.Client, hello *masterapi.HostHello, observe func(*masterapi.HostCommand)) (*Host, error) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, fmt.Errorf("make the identity of host %s: %w", hello.GetHostId(), err)
	}
	hello.Identity = public
	h := &Host{}
	h.Link = client.NewHostLink(func() *masterapi.HostHello { return hello }, func(c *masterapi.HostCommand) {
		if observe != nil {
			observe(c)
		}
		if p := c.GetPrepare(); p != nil {
			h.report(&masterapi.HostReport{Report: &masterapi.HostReport_Prepared{Prepared: Prepared(private, p)}})
		}
	})
	return h, nil
}

// Run keeps the host linked until ctx ends.
func (h *Host) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return h.Link.Run(ctx) })
	g.Go(func() error {
		ticker := time.NewTicker(reportEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-ticker.C:
				h.report(&masterapi.HostReport{Report: &masterapi.HostReport_Load{Load: &masterapi.HostLoad{}}})
			}
		}
	})
	return g.Wait()
}

// report sends what it can: the link comes back by itself, and the master asks again.
func (h *Host) report(r *masterapi.HostReport) { _ = h.Link.Send(r) }

// Prepared is the answer of a host with this identity: a certificate, one direct candidate, and the relay's media address if p names a relay.
func Prepared(identity ed25519.PrivateKey, p *masterapi.Prepare) *masterapi.Prepared {
	sum, expiry := sha256.Sum256([]byte("certificate")), time.Now().Add(24*time.Hour)
	hashes := [][]byte{sum[:]}
	answer := &masterapi.Prepared{
		LeaseId: p.GetLeaseId(), SessionId: p.GetSessionId(), CertificateSha256: hashes, CertificateExpiry: timestamppb.New(expiry),
		Signature:  ed25519.Sign(identity, masterapi.CertificateMessage(hashes, p.GetSessionId(), expiry)),
		Candidates: []*masterapi.Candidate{{Kind: masterapi.CandidateKind_CANDIDATE_KIND_DIRECT, Address: "192.0.2.1:4433"}},
	}
	if p.GetRelay() != nil {
		answer.RelayMediaAddress = p.GetRelay().GetMediaAddress() + ":5001"
	}
	return answer
}
