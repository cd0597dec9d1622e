package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/wavry/fleet/gateway"
	"github.com/wavry/fleet/gateway/store"
)

// gatewayTool loads the gateway's configuration for a command that works on its store; the master need not be configured.
func gatewayTool(env *environment, name string, args []string, more func(*flag.FlagSet)) (gateway.Config, error) {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(env.stderr)
	more(flags)
	file := defaultGatewayFile()
	if err := loadConfig("gateway", &file, flags, args); err != nil {
		return gateway.Config{}, err
	}
	var problems []error
	cfg := gateway.DefaultConfig()
	cfg.BindAddr, cfg.PublicURL, cfg.TLS.CertFile, cfg.TLS.ACMEDomains = file.BindAddr, file.PublicURL, file.TLSCertFile, file.ACMEDomains
	cfg.Store = store.Config{Driver: store.Driver(file.StoreDriver), DSN: file.StoreDSN, MustExist: true}
	cfg.LinkLifetime = duration("link_lifetime", file.LinkLifetime, &problems)
	cfg.Backup.Folder, cfg.Backup.Keep = file.BackupFolder, file.BackupKeep
	return cfg, errors.Join(problems...)
}

func (e *environment) printJSON(v any) error {
	encoder := json.NewEncoder(e.stdout)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

type gatewayBackup struct{ env *environment }

func (c *gatewayBackup) Synopsis() string { return "Back up the gateway's accounts while it runs" }

func (c *gatewayBackup) Help() string {
	return strings.TrimSpace(`
Usage: wavry gateway backup [-out FOLDER] [-json] [options of wavry gateway]

  Writes a consistent, verified copy of the store into FOLDER (default: backup_folder) while gateways go on using it. The key_file
  is not part of it: keep it apart, without it TOTP secrets in the backup cannot be used. PostgreSQL needs pg_dump.
`)
}

func (c *gatewayBackup) Run(args []string) int { return c.env.report("gateway backup", c.run(args)) }

func (c *gatewayBackup) run(args []string) (err error) {
	var out *string
	var asJSON *bool
	cfg, err := gatewayTool(c.env, "gateway backup", args, func(f *flag.FlagSet) {
		out = f.String("out", "", "folder of the backup")
		asJSON = f.Bool("json", false, "print JSON")
	})
	if err != nil {
		return err
	}
	if *out == "" {
		*out = cfg.Backup.Folder
	}
	if *out == "" {
		return errors.New("-out: name a folder, or configure backup_folder")
	}
	ctx, stop := signalContext()
	defer stop()
	s, err := store.Open(ctx, cfg.Store)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	report, err := s.Backup(ctx, *out, time.Now())
	if err != nil {
		return err
	}
	return c.env.printReport("backed up to", report, *asJSON)
}

func (e *environment) printReport(what string, r store.Report, asJSON bool) error {
	if asJSON {
		return e.printJSON(r)
	}
	_, err := fmt.Fprintf(e.stdout, "%s %s: %d bytes, schema %d, %d accounts, %d audit entries\n", what, r.Path, r.Bytes, r.Schema, r.Users, r.Audit)
	return err
}

type gatewayRestore struct{ env *environment }

func (c *gatewayRestore) Synopsis() string { return "Verify a backup of the accounts, or restore it" }

func (c *gatewayRestore) Help() string {
	return strings.TrimSpace(`
Usage: wavry gateway restore -from FILE [-verify] [-json] [options of wavry gateway]

  Verifies FILE and restores it to the configured store, which must not exist yet (sqlite) or be empty (postgres); stop the gateways
  before. What was restored is brought to the present schema and read back. -verify only verifies, and changes nothing.
`)
}

func (c *gatewayRestore) Run(args []string) int { return c.env.report("gateway restore", c.run(args)) }

func (c *gatewayRestore) run(args []string) error {
	var from *string
	var verify, asJSON *bool
	cfg, err := gatewayTool(c.env, "gateway restore", args, func(f *flag.FlagSet) {
		from = f.String("from", "", "backup `file`")
		verify = f.Bool("verify", false, "only verify")
		asJSON = f.Bool("json", false, "print JSON")
	})
	if err != nil {
		return err
	}
	if *from == "" {
		return errors.New("-from: name the backup file")
	}
	ctx, stop := signalContext()
	defer stop()
	if *verify {
		report, err := store.Verify(ctx, cfg.Store.Driver, *from)
		if err != nil {
			return err
		}
		return c.env.printReport("verified", report, *asJSON)
	}
	report, err := store.Restore(ctx, *from, cfg.Store)
	if err != nil {
		return err
	}
	return c.env.printReport("restored", report, *asJSON)
}

type gatewayInvite struct{ env *environment }

func (c *gatewayInvite) Synopsis() string { return "Print a one-time link for an account" }

func (c *gatewayInvite) Help() string {
	return strings.TrimSpace(`
Usage: wavry gateway invite -name NAME [-role viewer] [-json] [options of wavry gateway]

  Makes the account if there is none and prints a link that signs its owner in once, to choose a password. For an account that
  exists the link replaces a lost password. Works beside running gateways.
`)
}

func (c *gatewayInvite) Run(args []string) int { return c.env.report("gateway invite", c.run(args)) }

func (c *gatewayInvite) run(args []string) (err error) {
	var name, role *string
	var asJSON *bool
	cfg, err := gatewayTool(c.env, "gateway invite", args, func(f *flag.FlagSet) {
		name = f.String("name", "", "name of the account")
		role = f.String("role", string(store.RoleViewer), "role of a new account: admin, operator or viewer")
		asJSON = f.Bool("json", false, "print JSON")
	})
	if err != nil {
		return err
	}
	ctx, stop := signalContext()
	defer stop()
	tools, err := gateway.OpenTools(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tools.Close()) }()
	invite, err := tools.Invite(ctx, *name, store.Role(*role))
	if err != nil {
		return err
	}
	if *asJSON {
		return c.env.printJSON(invite)
	}
	_, err = fmt.Fprintf(c.env.stdout, "%s\n", invite.URL)
	return err
}

type gatewayUserList struct{ env *environment }

func (c *gatewayUserList) Synopsis() string { return "List the accounts" }

func (c *gatewayUserList) Help() string {
	return "Usage: wavry gateway user list [-json] [options of wavry gateway]"
}

func (c *gatewayUserList) Run(args []string) int {
	return c.env.report("gateway user list", c.run(args))
}

func (c *gatewayUserList) run(args []string) (err error) {
	var asJSON *bool
	cfg, err := gatewayTool(c.env, "gateway user list", args, func(f *flag.FlagSet) { asJSON = f.Bool("json", false, "print JSON") })
	if err != nil {
		return err
	}
	ctx, stop := signalContext()
	defer stop()
	tools, err := gateway.OpenTools(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tools.Close()) }()
	users, err := tools.Users(ctx)
	if err != nil {
		return err
	}
	if *asJSON {
		return c.env.printJSON(users)
	}
	table := tabwriter.NewWriter(c.env.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tROLE\tSTATE\tTOTP\tOIDC\tLAST SIGN-IN")
	for _, u := range users {
		state, last := "enabled", "never"
		if u.Disabled {
			state = "disabled"
		} else if !u.Password && !u.OIDC {
			state = "invited"
		}
		if !u.LastSignIn.IsZero() {
			last = u.LastSignIn.Format(time.RFC3339)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%v\t%v\t%s\n", u.Name, u.Role, state, u.TOTP, u.OIDC, last)
	}
	return table.Flush()
}

// gatewayUserChange is disable, enable, role and totp.
type gatewayUserChange struct {
	env  *environment
	what string
}

func (c *gatewayUserChange) Synopsis() string {
	return map[string]string{"disable": "Disable an account", "enable": "Enable an account", "role": "Change an account's role",
		"totp": "Take an account's second factor away"}[c.what]
}

func (c *gatewayUserChange) Help() string {
	role := ""
	if c.what == "role" {
		role = " -role ROLE"
	}
	return "Usage: wavry gateway user " + c.what + " -name NAME" + role + " [options of wavry gateway]"
}

func (c *gatewayUserChange) Run(args []string) int {
	return c.env.report("gateway user "+c.what, c.run(args))
}

func (c *gatewayUserChange) run(args []string) (err error) {
	var name *string
	role := new(string)
	cfg, err := gatewayTool(c.env, "gateway user "+c.what, args, func(f *flag.FlagSet) {
		name = f.String("name", "", "name of the account")
		if c.what == "role" {
			role = f.String("role", "", "admin, operator or viewer")
		}
	})
	if err != nil {
		return err
	}
	ctx, stop := signalContext()
	defer stop()
	tools, err := gateway.OpenTools(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tools.Close()) }()
	switch c.what {
	case "role":
		return tools.SetRole(ctx, *name, store.Role(*role))
	case "totp":
		return tools.ResetTOTP(ctx, *name)
	default:
		return tools.SetDisabled(ctx, *name, c.what == "disable")
	}
}
