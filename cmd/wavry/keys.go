package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/cli"

	"github.com/wavry/fleet/master/identity"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/masterclient"
)

func keysCommands(env *environment) map[string]cli.CommandFactory {
	return masterTools(env,
		&masterTool{name: "keys status", synopsis: "Show the signing keys and the next rotation", run: keysStatus},
		&masterTool{name: "keys rotate", synopsis: "Let the next signing key sign now", run: keysRotate},
		&masterTool{name: "keys revoke", synopsis: "Revoke a signing key and the leases it signed", arg: "KEY", flags: reasonFlag, suggest: suggestKeys, run: keysRevoke},
	)
}

func keysStatus(c *toolCall) error {
	r, err := c.client.Keys().ListKeys(c.ctx, &masterapi.ListKeysRequest{})
	if err != nil {
		return err
	}
	return showKeys(c, r)
}

func showKeys(c *toolCall, r *masterapi.ListKeysResponse) error {
	var rows [][]string
	for _, k := range r.GetKeys() {
		rows = append(rows, []string{
			k.GetKeyId(), strings.ToLower(strings.TrimPrefix(k.GetState().String(), "KEY_STATE_")), ago(k.GetCreated()), ago(k.GetSigningSince()),
			ago(k.GetEnded()), fmt.Sprint(k.GetLiveLeases()),
		})
	}
	if err := c.show(r, "KEY\tSTATE\tCREATED\tSIGNING SINCE\tENDED\tLIVE LEASES", rows); err != nil || c.json {
		return err
	}
	next := "by hand only"
	if r.GetNextRotation() != nil {
		next = ago(r.GetNextRotation())
	}
	_, err := fmt.Fprintf(c.env.stdout, "\nKey set version %d, next rotation: %s\n", r.GetKeySetVersion(), next)
	return err
}

func keysRotate(c *toolCall) error {
	r, err := c.client.Keys().Rotate(c.ctx, &masterapi.RotateKeyRequest{})
	if err != nil {
		return err
	}
	return showKeys(c, r)
}

func keysRevoke(c *toolCall) error {
	r, err := c.client.Keys().Revoke(c.ctx, &masterapi.RevokeKeyRequest{KeyId: c.arg, Comment: c.text("reason")})
	if err != nil {
		return err
	}
	return showKeys(c, r)
}

func suggestKeys(ctx context.Context, client *masterclient.Client) (ids []string) {
	r, err := client.Keys().ListKeys(ctx, &masterapi.ListKeysRequest{})
	if err != nil {
		return nil // completion stays silent
	}
	for _, k := range r.GetKeys() {
		ids = append(ids, k.GetKeyId())
	}
	return ids
}

func tlsCommands(env *environment) map[string]cli.CommandFactory {
	return map[string]cli.CommandFactory{
		"tls ca":   func() (cli.Command, error) { return &tlsCA{env}, nil },
		"tls cert": func() (cli.Command, error) { return &tlsCert{env}, nil },
	}
}

type tlsCA struct{ env *environment }

func (c *tlsCA) Synopsis() string { return "Make a certificate authority for a cluster" }

func (c *tlsCA) Help() string {
	return "Usage: wavry tls ca [-dir DIRECTORY] [-days N]\n\n  Writes ca.pem and ca-key.pem. Keep ca-key.pem off the servers."
}

func (c *tlsCA) Run(args []string) int { return c.env.report("tls ca", c.run(args)) }

func (c *tlsCA) run(args []string) error {
	flags := flag.NewFlagSet("tls ca", flag.ContinueOnError)
	flags.SetOutput(c.env.stderr)
	dir, days := flags.String("dir", ".", "`directory` to write to"), flags.Int("days", 3650, "validity in days")
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	_, pair, err := identity.NewAuthority(time.Now(), time.Duration(*days)*24*time.Hour)
	if err != nil {
		return err
	}
	return pair.WriteFiles(*dir, "ca")
}

type tlsCert struct{ env *environment }

func (c *tlsCert) Synopsis() string { return "Make a certificate for one service" }

func (c *tlsCert) Help() string {
	return strings.TrimSpace(`
Usage: wavry tls cert [-dir DIRECTORY] [-days N] [-san NAME,...] ROLE/NAME

  Writes ROLE-NAME.pem and ROLE-NAME-key.pem, signed by ca.pem and ca-key.pem of the directory. ROLE is master, gateway, relay, host,
  operator or backup; NAME is the service's id, and a relay or host may only speak for the id in its certificate.
`)
}

func (c *tlsCert) Run(args []string) int { return c.env.report("tls cert", c.run(args)) }

func (c *tlsCert) run(args []string) error {
	flags := flag.NewFlagSet("tls cert", flag.ContinueOnError)
	flags.SetOutput(c.env.stderr)
	dir, days := flags.String("dir", ".", "`directory` of the authority, and to write to"), flags.Int("days", 365, "validity in days")
	names := flags.String("san", "", "further DNS names and addresses, with commas")
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return errors.New("usage: wavry tls cert [options] ROLE/NAME")
	}
	id, err := identity.Parse(flags.Arg(0))
	if err != nil {
		return err
	}
	var ca identity.KeyPair
	if ca.Certificate, err = os.ReadFile(filepath.Join(*dir, "ca.pem")); err != nil {
		return err
	}
	if ca.Key, err = os.ReadFile(filepath.Join(*dir, "ca-key.pem")); err != nil {
		return err
	}
	authority, err := identity.LoadAuthority(ca)
	if err != nil {
		return err
	}
	pair, err := authority.Issue(id, splitList(*names), time.Now(), time.Duration(*days)*24*time.Hour)
	if err != nil {
		return err
	}
	return pair.WriteFiles(*dir, string(id.Role)+"-"+id.Name)
}
