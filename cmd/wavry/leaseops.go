package main

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"strings"

	"github.com/hashicorp/cli"

	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/masterclient"
)

func leaseCommands(env *environment) map[string]cli.CommandFactory {
	filters := func(f *flag.FlagSet) {
		f.String("session", "", "only of this session")
		f.String("host", "", "only on this host")
		f.String("relay", "", "only on this relay")
		f.Bool("all", false, "ended ones as well, while they are remembered")
	}
	return masterTools(env,
		&masterTool{name: "lease list", synopsis: "List the leases", flags: filters, run: listLeases},
		&masterTool{name: "lease show", synopsis: "Show one lease", arg: "LEASE", suggest: suggestLeases, run: showLease},
		&masterTool{name: "lease revoke", synopsis: "Revoke one lease: relays and hosts refuse it", arg: "LEASE", flags: reasonFlag, suggest: suggestLeases, run: revokeLease},
	)
}

func leaseWord(s masterapi.LeaseState) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "LEASE_STATE_"))
}

// randomRequestID names a wish of this command, so that a retry of the client is not a second one.
func randomRequestID() string { return "cli-" + rand.Text() }

func listLeases(c *toolCall) error {
	request := &masterapi.ListLeasesRequest{
		SessionId: c.text("session"), HostId: c.text("host"), RelayId: c.text("relay"), IncludeEnded: c.isSet("all"), Limit: masterapi.MaxPage,
	}
	all := &masterapi.ListLeasesResponse{}
	for {
		r, err := c.client.Leases().List(c.ctx, request)
		if err != nil {
			return err
		}
		all.Leases = append(all.Leases, r.GetLeases()...)
		if request.After = r.GetNextAfter(); request.After == "" {
			break
		}
	}
	var rows [][]string
	for _, l := range all.GetLeases() {
		rows = append(rows, []string{
			l.GetLeaseId(), l.GetSessionId(), l.GetViewerId(), l.GetHostId(), dash(l.GetRelayId()), leaseWord(l.GetState()), ago(l.GetExpiry()), l.GetKeyId(),
		})
	}
	return c.show(all, "LEASE\tSESSION\tVIEWER\tHOST\tRELAY\tSTATE\tEXPIRES\tKEY", rows)
}

func showLease(c *toolCall) error {
	l, err := c.client.Leases().Get(c.ctx, &masterapi.GetLeaseRequest{LeaseId: c.arg})
	if err != nil {
		return err
	}
	return c.show(l, "", [][]string{
		{"Lease", l.GetLeaseId()}, {"Session", l.GetSessionId()}, {"Viewer", l.GetViewerId()}, {"Login", l.GetLogin()}, {"Viewer address", dash(l.GetViewerAddress())},
		{"Host", l.GetHostId()}, {"Relay", dash(l.GetRelayId())}, {"Circuit", fmt.Sprintf("%016x", l.GetCircuit())}, {"Region", dash(l.GetRegion())},
		{"Role", strings.ToLower(strings.TrimPrefix(l.GetRole().String(), "VIEWER_ROLE_"))}, {"State", leaseWord(l.GetState())}, {"Issued", ago(l.GetIssued())},
		{"Expires", ago(l.GetExpiry())}, {"Renewals", fmt.Sprint(l.GetRenewals())}, {"Key", l.GetKeyId()}, {"Ended", ago(l.GetEnded())},
		{"Reason", dash(strings.TrimPrefix(l.GetEndReason().Slug(), "unspecified"))},
	})
}

func revokeLease(c *toolCall) error {
	r, err := c.client.Leases().Revoke(c.ctx, &masterapi.RevokeRequest{LeaseId: c.arg, Comment: c.text("reason")})
	if err != nil {
		return err
	}
	return c.done(r, "lease %s revoked", c.arg)
}

func suggestLeases(ctx context.Context, client *masterclient.Client) (ids []string) {
	r, err := client.Leases().List(ctx, &masterapi.ListLeasesRequest{})
	if err != nil {
		return nil // completion stays silent
	}
	for _, l := range r.GetLeases() {
		ids = append(ids, l.GetLeaseId())
	}
	return ids
}
