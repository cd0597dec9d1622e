package main

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/cli"

	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/masterclient"
	"github.com/wavry/fleet/master/state"
	"github.com/wavry/fleet/relay/relaywire"
)

func relayOperatorCommands(env *environment) map[string]cli.CommandFactory {
	to := func(s masterapi.RelayState) func(*toolCall) error {
		return func(c *toolCall) error { return setRelay(c, s) }
	}
	return masterTools(env,
		&masterTool{name: "relay list", synopsis: "List the relays", run: listRelays},
		&masterTool{name: "relay show", synopsis: "Show one relay with its history", arg: "RELAY", suggest: suggestRelays, run: showRelay},
		&masterTool{name: "relay drain", synopsis: "Move the viewers of a relay elsewhere", arg: "RELAY", flags: reasonFlag, suggest: suggestRelays, run: to(masterapi.RelayState_RELAY_STATE_DRAINING)},
		&masterTool{name: "relay activate", synopsis: "Let a relay take sessions again", arg: "RELAY", flags: reasonFlag, suggest: suggestRelays, run: to(masterapi.RelayState_RELAY_STATE_ACTIVE)},
		&masterTool{name: "relay quarantine", synopsis: "Take a suspicious relay out", arg: "RELAY", flags: reasonFlag, suggest: suggestRelays, run: to(masterapi.RelayState_RELAY_STATE_QUARANTINED)},
		&masterTool{name: "relay ban", synopsis: "Keep a relay out", arg: "RELAY", flags: reasonFlag, suggest: suggestRelays, run: to(masterapi.RelayState_RELAY_STATE_BANNED)},
		&masterTool{name: "relay forget", synopsis: "Forget a relay that is gone for good", arg: "RELAY", suggest: suggestRelays, run: forgetRelay},
	)
}

func listRelays(c *toolCall) error {
	r, err := c.client.Fleet().ListRelays(c.ctx, &masterapi.ListRelaysRequest{})
	if err != nil {
		return err
	}
	var rows [][]string
	for _, m := range r.GetRelays() {
		rows = append(rows, []string{
			m.GetRelayId(), dash(m.GetRegion()), state.RelayWord(m.GetState()), healthText(m.GetHealth()), fmt.Sprintf("%d/%d", m.GetLeases(), m.GetCapacityCircuits()),
			fmt.Sprintf("%.2f", m.GetScore()), m.GetControlAddress(), ago(m.GetSince()), dash(m.GetReason()),
		})
	}
	return c.show(r, "RELAY\tREGION\tSTATE\tHEALTH\tCIRCUITS\tSCORE\tADDRESS\tSINCE\tREASON", rows)
}

func healthText(h *masterapi.Health) string {
	text := dash(h.GetStatus())
	if h.GetStale() {
		text += " (stale)"
	}
	if !h.GetLinked() {
		text += ", no link"
	}
	return text
}

func showRelay(c *toolCall) error {
	m, err := c.client.Fleet().GetRelay(c.ctx, &masterapi.GetRelayRequest{RelayId: c.arg})
	if err != nil {
		return err
	}
	rows := [][]string{
		{"Relay", m.GetRelayId()}, {"Region", dash(m.GetRegion())}, {"Version", dash(m.GetVersion())}, {"Control address", m.GetControlAddress()},
		{"Media address", m.GetMediaAddress()}, {"State", state.RelayWord(m.GetState()) + " " + ago(m.GetSince()) + " by " + dash(m.GetActor()) + ": " + dash(m.GetReason())},
		{"Health", healthText(m.GetHealth())}, {"Circuits", fmt.Sprintf("%d of %d", m.GetLeases(), m.GetCapacityCircuits())},
		{"Score", fmt.Sprintf("%.2f", m.GetScore())}, {"Load", fmt.Sprintf("%.0f %% CPU, %d kbit/s", 100*m.GetLoad().GetCpu(), m.GetLoad().GetBitsPerSecond()/1000)},
		{"Works", fmt.Sprintf("%d circuits did, %d did not, since its start", m.GetLoad().GetCircuitsSucceeded(), m.GetLoad().GetCircuitsFailed())},
	}
	for _, reason := range relaywire.Reasons {
		if n := m.GetLoad().GetRejects()[reason.String()]; n > 0 {
			rows = append(rows, []string{"Refused", fmt.Sprintf("%d %s: %s", n, reason, reason.Help())})
		}
	}
	return c.show(m, "", append(rows, historyRows(m.GetHistory())...))
}

func historyRows(history []*masterapi.Transition) (rows [][]string) {
	for _, t := range history {
		rows = append(rows, []string{
			"  " + t.GetTime().AsTime().Format(time.RFC3339), fmt.Sprintf("%s -> %s by %s: %s", dash(t.GetFrom()), t.GetTo(), dash(t.GetActor()), dash(t.GetReason())),
		})
	}
	return rows
}

func setRelay(c *toolCall, to masterapi.RelayState) error {
	m, err := c.client.Fleet().SetRelayState(c.ctx, &masterapi.SetRelayStateRequest{RelayId: c.arg, State: to, Reason: c.text("reason")})
	if err != nil {
		return err
	}
	return c.done(m, "relay %s is %s, %d circuits", m.GetRelayId(), state.RelayWord(m.GetState()), m.GetLeases())
}

func forgetRelay(c *toolCall) error {
	r, err := c.client.Fleet().ForgetRelay(c.ctx, &masterapi.ForgetRelayRequest{RelayId: c.arg})
	if err != nil {
		return err
	}
	return c.done(r, "relay %s forgotten", c.arg)
}

func suggestRelays(ctx context.Context, client *masterclient.Client) (ids []string) {
	r, err := client.Fleet().ListRelays(ctx, &masterapi.ListRelaysRequest{})
	if err != nil {
		return nil // completion stays silent
	}
	for _, m := range r.GetRelays() {
		ids = append(ids, m.GetRelayId())
	}
	return ids
}
