package main

import (
	"context"
	"flag"
	"fmt"
	"strings"

	"github.com/hashicorp/cli"

	"github.com/wavry/fleet/hostruntime/nomadmeta"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/masterclient"
	"github.com/wavry/fleet/master/state"
)

func hostOperatorCommands(env *environment) map[string]cli.CommandFactory {
	to := func(s masterapi.HostStateWord) func(*toolCall) error {
		return func(c *toolCall) error { return setHost(c, s) }
	}
	pool := func(f *flag.FlagSet) {
		f.String("pool", "", "only this pool")
		f.Bool("why", false, "also Nomad's nodes that took themselves out or refuse their order of plugins, and jobs of hosts that wait for a node, with reasons (asks NOMAD_ADDR)")
	}
	approveFlags := func(f *flag.FlagSet) {
		reasonFlag(f)
		f.String("pool", "", "only if the host offers this pool")
		f.String("slots", "", "only if the host offers this many slots")
	}
	return masterTools(env,
		&masterTool{name: "host list", synopsis: "List the hosts", flags: pool, run: listHosts},
		&masterTool{name: "host show", synopsis: "Show one host with its history", arg: "HOST", suggest: suggestHosts, run: showHost},
		&masterTool{name: "host drain", synopsis: "Let a host take no new sessions", arg: "HOST", flags: reasonFlag, suggest: suggestHosts, run: to(masterapi.HostStateWord_HOST_STATE_DRAINING)},
		&masterTool{name: "host activate", synopsis: "Let a host take sessions again", arg: "HOST", flags: reasonFlag, suggest: suggestHosts, run: to(masterapi.HostStateWord_HOST_STATE_ACTIVE)},
		&masterTool{name: "host approve", synopsis: "Let a pending host take sessions for what it offers", arg: "HOST", flags: approveFlags, suggest: suggestHosts, run: approveHost},
		&masterTool{name: "host quarantine", synopsis: "Take a suspicious host out", arg: "HOST", flags: reasonFlag, suggest: suggestHosts, run: to(masterapi.HostStateWord_HOST_STATE_QUARANTINED)},
		&masterTool{name: "host forget", synopsis: "Forget a host that is gone for good", arg: "HOST", suggest: suggestHosts, run: forgetHost},
	)
}

func listHosts(c *toolCall) error {
	r, err := c.client.Fleet().ListHosts(c.ctx, &masterapi.ListHostsRequest{Pool: c.text("pool")})
	if err != nil {
		return err
	}
	var rows [][]string
	for _, m := range r.GetHosts() {
		rows = append(rows, []string{
			m.GetHostId(), m.GetPool(), dash(m.GetRegion()), state.HostWord(m.GetState()), healthText(m.GetHealth()), fmt.Sprintf("%d/%d", m.GetSlotsUsed(), m.GetSlots()),
			dash(m.GetCapabilities().GetCompositor()), dash(m.GetCapabilities().GetAttributes()[masterapi.AttributeDesktop]), dash(m.GetCapabilities().GetEncoderPlugin()), ago(m.GetSince()), dash(m.Why()),
		})
	}
	if err := c.show(r, "HOST\tPOOL\tREGION\tSTATE\tHEALTH\tSLOTS\tCOMPOSITOR\tDESKTOP\tENCODER\tSINCE\tREASON", rows); err != nil || c.json || !c.isSet("why") {
		return err
	}
	return showTroubles(c)
}

// showTroubles lists what Nomad's nodes say themselves, also when no master heard it, and jobs of hosts that no node fits.
func showTroubles(c *toolCall) error {
	nodes, err := nomadmeta.ListTroubles(c.ctx, nomadmeta.Config{})
	if err != nil {
		return fmt.Errorf("-why: %w", err)
	}
	jobs, err := nomadmeta.ListWaiting(c.ctx, nomadmeta.Config{})
	if err != nil {
		return fmt.Errorf("-why: %w", err)
	}
	var text strings.Builder
	for _, n := range nodes {
		if n.Unusable {
			fmt.Fprintf(&text, "\nNode %s takes no sessions: %s\n", n.Node, n.Reason)
		}
		if n.Refused != "" {
			fmt.Fprintf(&text, "\nNode %s keeps its last good order of plugins: %s\n", n.Node, n.Refused)
		}
	}
	for _, j := range jobs {
		fmt.Fprintf(&text, "\nJob %s waits for a node: %s\n", j.Job, j.Reason)
	}
	_, err = fmt.Fprint(c.env.stdout, text.String())
	return err
}

func showHost(c *toolCall) error {
	m, err := c.client.Fleet().GetHost(c.ctx, &masterapi.GetHostRequest{HostId: c.arg})
	if err != nil {
		return err
	}
	caps := m.GetCapabilities()
	said := caps.GetAttributes()
	rows := [][]string{
		{"Host", m.GetHostId()}, {"Pool", m.GetPool()}, {"Region", dash(m.GetRegion())}, {"Version", dash(m.GetVersion())},
		{"State", state.HostWord(m.GetState()) + " " + ago(m.GetSince()) + " by " + dash(m.GetActor()) + ": " + dash(m.GetReason())},
		permitRow(m), {"Key", fmt.Sprintf("%x", m.GetIdentity())}, {"Health", healthText(m.GetHealth())}, {"Slots", fmt.Sprintf("%d of %d used", m.GetSlotsUsed(), m.GetSlots())},
		{"Direct addresses", dash(strings.Join(m.GetDirectAddresses(), " "))}, {"Compositor", dash(caps.GetCompositor())},
		{"Capture", dash(caps.GetCapturePlugin())}, {"Encoder", dash(caps.GetEncoderPlugin())}, {"Codecs", dash(strings.Join(caps.GetCodecs(), " "))}, {"GPU", dash(caps.GetGpu())},
	}
	if word := said[masterapi.AttributeDesktop]; word != "" {
		rows = append(rows, []string{"Desktop", word + " between people"})
	}
	if why := said[masterapi.AttributeUnusable]; why != "" {
		rows = append(rows, []string{"Takes nobody", why})
	}
	if why := said[masterapi.AttributeRefused]; why != "" {
		rows = append(rows, []string{"Order refused", why})
	}
	return c.show(m, "", append(rows, historyRows(m.GetHistory())...))
}

func setHost(c *toolCall, to masterapi.HostStateWord) error {
	m, err := c.client.Fleet().SetHostState(c.ctx, &masterapi.SetHostStateRequest{HostId: c.arg, State: to, Reason: c.text("reason")})
	if err != nil {
		return err
	}
	return c.done(m, "host %s is %s, %d of %d slots used", m.GetHostId(), state.HostWord(m.GetState()), m.GetSlotsUsed(), m.GetSlots())
}

func forgetHost(c *toolCall) error {
	r, err := c.client.Fleet().ForgetHost(c.ctx, &masterapi.ForgetHostRequest{HostId: c.arg})
	if err != nil {
		return err
	}
	return c.done(r, "host %s forgotten", c.arg)
}

func suggestHosts(ctx context.Context, client *masterclient.Client) (ids []string) {
	r, err := client.Fleet().ListHosts(ctx, &masterapi.ListHostsRequest{})
	if err != nil {
		return nil // completion stays silent
	}
	for _, m := range r.GetHosts() {
		ids = append(ids, m.GetHostId())
	}
	return ids
}
