package main

import (
	"strings"

	"github.com/hashicorp/cli"

	"github.com/wavry/fleet/master/masterapi"
)

// certCommands revoke what services show: certificates by serial number, or a service by its name.
func certCommands(env *environment) map[string]cli.CommandFactory {
	return masterTools(env,
		&masterTool{name: "operator cert revoke", synopsis: "Let a certificate (SERIAL) or a service (ROLE/NAME) be nobody, and cut its links", arg: "SERIAL|ROLE/NAME", flags: reasonFlag, run: revokeCert},
		&masterTool{name: "operator cert restore", synopsis: "Take a revocation back", arg: "SERIAL|ROLE/NAME", run: restoreCert},
		&masterTool{name: "operator cert list", synopsis: "List what is revoked", run: listRevoked},
	)
}

// revoked is the kind of what is named.
func revoked(subject string) masterapi.Ban_Kind {
	if strings.Contains(subject, "/") {
		return masterapi.Ban_KIND_IDENTITY
	}
	return masterapi.Ban_KIND_CERTIFICATE
}

func revokeCert(c *toolCall) error {
	r, err := c.client.Fleet().PutBan(c.ctx, &masterapi.Ban{Kind: revoked(c.arg), Subject: c.arg, Reason: c.text("reason")})
	if err != nil {
		return err
	}
	return c.done(r, "%s is revoked", c.arg)
}

func restoreCert(c *toolCall) error {
	r, err := c.client.Fleet().RemoveBan(c.ctx, &masterapi.RemoveBanRequest{Kind: revoked(c.arg), Subject: c.arg})
	if err != nil {
		return err
	}
	return c.done(r, "%s is not revoked any more", c.arg)
}

func listRevoked(c *toolCall) error {
	all, err := c.client.Fleet().ListBans(c.ctx, &masterapi.ListBansRequest{})
	if err != nil {
		return err
	}
	list, rows := &masterapi.BanList{}, [][]string(nil)
	for _, b := range all.GetBans() {
		if kind := b.GetKind(); kind == masterapi.Ban_KIND_CERTIFICATE || kind == masterapi.Ban_KIND_IDENTITY {
			list.Bans = append(list.Bans, b)
			rows = append(rows, []string{b.GetSubject(), b.GetActor(), ago(b.GetSince()), dash(b.GetReason())})
		}
	}
	return c.show(list, "REVOKED\tBY\tSINCE\tREASON", rows)
}
