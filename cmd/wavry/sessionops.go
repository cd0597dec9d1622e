package main

import (
	"context"
	"flag"
	"fmt"
	"strings"

	"github.com/hashicorp/cli"

	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/masterclient"
)

func sessionCommands(env *environment) map[string]cli.CommandFactory {
	filters := func(f *flag.FlagSet) {
		f.String("login", "", "only of this login")
		f.String("host", "", "only on this host")
		f.String("relay", "", "only through this relay")
		f.Bool("all", false, "ended ones as well, while they are remembered")
	}
	end := func(f *flag.FlagSet) { f.String("message", "", "shown to the viewer") }
	return masterTools(env,
		&masterTool{name: "session list", synopsis: "List the sessions", flags: filters, run: listSessions},
		&masterTool{name: "session show", synopsis: "Show one session with its leases", arg: "SESSION", suggest: suggestSessions, run: showSession},
		&masterTool{name: "session end", synopsis: "End a session", arg: "SESSION", flags: end, suggest: suggestSessions, run: endSession},
		&masterTool{name: "session move", synopsis: "Move a session's viewers to another relay", arg: "SESSION", suggest: suggestSessions, run: moveSession},
	)
}

func sessionWord(s masterapi.SessionState) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "SESSION_STATE_"))
}

func listSessions(c *toolCall) error {
	request := &masterapi.ListSessionsRequest{
		Login: c.text("login"), HostId: c.text("host"), RelayId: c.text("relay"), IncludeEnded: c.isSet("all"), Limit: masterapi.MaxPage,
	}
	all := &masterapi.ListSessionsResponse{}
	for {
		r, err := c.client.Sessions().ListSessions(c.ctx, request)
		if err != nil {
			return err
		}
		all.Sessions = append(all.Sessions, r.GetSessions()...)
		if request.After = r.GetNextAfter(); request.After == "" {
			break
		}
	}
	var rows [][]string
	for _, s := range all.GetSessions() {
		state := sessionWord(s.GetState())
		if s.GetEnded() != nil {
			state += ": " + s.GetEndReason().Slug()
		}
		rows = append(rows, []string{s.GetSessionId(), s.GetLogin(), s.GetPool(), s.GetHostId(), state, fmt.Sprint(len(s.GetLeases())), ago(s.GetCreated())})
	}
	return c.show(all, "SESSION\tLOGIN\tPOOL\tHOST\tSTATE\tLEASES\tCREATED", rows)
}

func showSession(c *toolCall) error {
	s, err := c.client.Sessions().GetSession(c.ctx, &masterapi.GetSessionRequest{SessionId: c.arg})
	if err != nil {
		return err
	}
	rows := [][]string{
		{"Session", s.GetSessionId()}, {"Login", s.GetLogin()}, {"Pool", s.GetPool()}, {"Region", dash(s.GetRegion())}, {"Host", s.GetHostId()},
		{"State", sessionWord(s.GetState())}, {"Created", ago(s.GetCreated())}, {"Ended", ago(s.GetEnded())}, {"Reason", dash(strings.TrimPrefix(s.GetEndReason().Slug(), "unspecified"))},
	}
	for _, l := range s.GetLeases() {
		rows = append(rows, []string{"Lease " + l.GetLeaseId(), fmt.Sprintf("viewer %s, relay %s, %s, expires %s", l.GetViewerId(), dash(l.GetRelayId()), leaseWord(l.GetState()), ago(l.GetExpiry()))})
	}
	return c.show(s, "", rows)
}

func endSession(c *toolCall) error {
	r, err := c.client.Sessions().EndSession(c.ctx, &masterapi.EndSessionRequest{SessionId: c.arg, Message: c.text("message")})
	if err != nil {
		return err
	}
	return c.done(r, "session %s ended", c.arg)
}

func moveSession(c *toolCall) error {
	r, err := c.client.Sessions().MoveSession(c.ctx, &masterapi.MoveSessionRequest{RequestId: randomRequestID(), SessionId: c.arg, Reason: masterapi.Reason_REASON_MOVED})
	if err != nil {
		return err
	}
	for _, g := range r.GetGrants() {
		g.ViewerToken = "" // a token in a terminal is a token in somebody's log
	}
	return c.done(r, "%d viewers moved", len(r.GetGrants()))
}

func suggestSessions(ctx context.Context, client *masterclient.Client) (ids []string) {
	r, err := client.Sessions().ListSessions(ctx, &masterapi.ListSessionsRequest{})
	if err != nil {
		return nil // completion stays silent
	}
	for _, s := range r.GetSessions() {
		ids = append(ids, s.GetSessionId())
	}
	return ids
}
