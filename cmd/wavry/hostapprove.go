package main

import (
	"errors"
	"fmt"

	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/state"
)

// approveHost lets a pending host take sessions. What is approved is printed, and is what the master is asked for: a host that changes its offer meanwhile is
// refused.
func approveHost(c *toolCall) error {
	seen, err := c.client.Fleet().GetHost(c.ctx, &masterapi.GetHostRequest{HostId: c.arg})
	if err != nil {
		return err
	}
	for flag, said := range map[string]string{"pool": seen.GetPool(), "slots": fmt.Sprint(seen.GetSlots())} {
		if want := c.text(flag); want != "" && want != said {
			return errors.New("host " + c.arg + " offers " + flag + " " + said + ", not " + want + ": nothing is approved")
		}
	}
	m, err := c.client.Fleet().ApproveHost(c.ctx, &masterapi.ApproveHostRequest{
		HostId: c.arg, Pool: seen.GetPool(), Region: seen.GetRegion(), Slots: seen.GetSlots(), Identity: seen.GetIdentity(), Reason: c.text("reason"),
	})
	if err != nil {
		return err
	}
	return c.done(m, "host %s is %s, with pool %s, %d slots, region %s, key %x", m.GetHostId(), state.HostWord(m.GetState()), m.GetPool(), m.GetSlots(), dash(m.GetRegion()), m.GetIdentity())
}

// permitRow says by what a host may offer what it offers.
func permitRow(m *masterapi.Host) []string {
	switch a := m.GetApproval(); {
	case m.GetRule() != "":
		return []string{"Allowed by", "rule " + m.GetRule()}
	case a != nil:
		return []string{"Allowed by", fmt.Sprintf("%s %s: pool %s, %d slots, region %s, key %x", a.GetActor(), ago(a.GetTime()), a.GetPool(), a.GetSlots(), dash(a.GetRegion()), a.GetIdentity())}
	default:
		return []string{"Allowed by", "nobody"}
	}
}
