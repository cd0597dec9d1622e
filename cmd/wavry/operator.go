package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/hashicorp/cli"
	"github.com/posener/complete"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/wavry/fleet/master/archive"
	"github.com/wavry/fleet/master/identity"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/masterapi/masterapiconnect"
	"github.com/wavry/fleet/master/masterclient"
	"github.com/wavry/fleet/master/state"
)

func operatorCommands(env *environment) map[string]cli.CommandFactory {
	return mergeCommands(
		keysCommands(env), relayOperatorCommands(env), hostOperatorCommands(env), sessionCommands(env), leaseCommands(env), tlsCommands(env), certCommands(env),
		masterTools(env,
			&masterTool{name: "operator raft list-peers", synopsis: "List the servers of the control plane", run: listPeers},
			&masterTool{name: "operator raft remove-peer", synopsis: "Remove a server that is gone for good", arg: "SERVER", run: removePeer},
			&masterTool{name: "operator raft transfer", synopsis: "Hand the leadership to another server", run: transferLeadership},
			&masterTool{name: "operator status", synopsis: "Show how each server is", run: serverStatus},
			&masterTool{name: "operator snapshot save", synopsis: "Save the state of the cluster to a file", arg: "FILE", run: saveSnapshot},
			&masterTool{name: "operator snapshot restore", synopsis: "Replace the state of the cluster by a file", arg: "FILE", run: restoreSnapshot},
			&masterTool{name: "operator audit", synopsis: "Show administrative changes, newest first", flags: limitFlag, run: listAudit},
		),
		map[string]cli.CommandFactory{
			"operator snapshot inspect": func() (cli.Command, error) { return &snapshotInspect{env}, nil },
		})
}

// exitRefused is the exit code when the master refused; 1 is any other failure.
const exitRefused = 2

// masterTool is a command that talks to the master: connection flags, -json, at most one argument, completion.
type masterTool struct {
	env            *environment
	name, synopsis string
	arg            string // name of the one argument in the usage; empty: none
	flags          func(*flag.FlagSet)
	suggest        func(context.Context, *masterclient.Client) []string // completes the argument
	run            func(*toolCall) error
}

// toolCall is one invocation.
type toolCall struct {
	ctx    context.Context
	env    *environment
	client *masterclient.Client
	flags  *flag.FlagSet
	arg    string
	json   bool
}

func masterTools(env *environment, tools ...*masterTool) map[string]cli.CommandFactory {
	table := map[string]cli.CommandFactory{}
	for _, t := range tools {
		t.env = env
		table[t.name] = func() (cli.Command, error) { return t, nil }
	}
	return table
}

func mergeCommands(tables ...map[string]cli.CommandFactory) map[string]cli.CommandFactory {
	all := map[string]cli.CommandFactory{}
	for _, t := range tables {
		for name, f := range t {
			all[name] = f
		}
	}
	return all
}

// connection says where the master is; environment variables hold for what no flag says.
type connection struct {
	address, ca, cert, key, token string
	timeout                       time.Duration
}

func (c *connection) register(flags *flag.FlagSet) {
	env := func(name, fallback string) string {
		if v := os.Getenv(name); v != "" {
			return v
		}
		return fallback
	}
	flags.StringVar(&c.address, "address", env("WAVRY_ADDR", "127.0.0.1:7401"), "`host:port` of any master, or several with commas [WAVRY_ADDR]")
	flags.StringVar(&c.ca, "ca-cert", env("WAVRY_CACERT", ""), "`file` of the certificate authority [WAVRY_CACERT]")
	flags.StringVar(&c.cert, "client-cert", env("WAVRY_CLIENT_CERT", ""), "`file` of the operator's certificate [WAVRY_CLIENT_CERT]")
	flags.StringVar(&c.key, "client-key", env("WAVRY_CLIENT_KEY", ""), "`file` of the operator's private key [WAVRY_CLIENT_KEY]")
	flags.StringVar(&c.token, "token-file", env("WAVRY_TOKEN_FILE", ""), "`file` with a bearer token; the token itself may be in WAVRY_TOKEN [WAVRY_TOKEN_FILE]")
	flags.DurationVar(&c.timeout, "timeout", 10*time.Second, "how long to look for a leader")
}

func (c *connection) client() (*masterclient.Client, error) {
	cfg := masterclient.Config{Addresses: splitList(c.address), RetryFor: c.timeout}
	if c.ca == "" {
		return nil, errors.New("-ca-cert or WAVRY_CACERT: a master is known by its certificate, also on loopback; name the authority's file")
	}
	source, err := identity.Files{Authority: c.ca, Certificate: c.cert, Key: c.key}.Load()
	if err != nil {
		return nil, err
	}
	cfg.TLS = source.Client(identity.RoleMaster)
	token := os.Getenv("WAVRY_TOKEN")
	if c.token != "" {
		text, err := os.ReadFile(c.token)
		if err != nil {
			return nil, fmt.Errorf("read token: %w", err)
		}
		token = strings.TrimSpace(string(text))
	}
	if token != "" {
		cfg.Token = func() (string, error) { return token, nil }
	}
	return masterclient.New(cfg)
}

func (t *masterTool) Synopsis() string { return t.synopsis }

func (t *masterTool) usage() string {
	if t.arg == "" {
		return "wavry " + t.name + " [options]"
	}
	return "wavry " + t.name + " [options] " + t.arg
}

func (t *masterTool) Help() string {
	flags, _, _ := t.flagSet()
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: %s\n\n  %s.\n\nOptions:\n\n", t.usage(), t.synopsis)
	flags.SetOutput(&b)
	flags.PrintDefaults()
	return b.String()
}

func (t *masterTool) flagSet() (*flag.FlagSet, *connection, *bool) {
	flags := flag.NewFlagSet(t.name, flag.ContinueOnError)
	flags.SetOutput(t.env.stderr)
	c := &connection{}
	c.register(flags)
	asJSON := flags.Bool("json", false, "print JSON")
	if t.flags != nil {
		t.flags(flags)
	}
	return flags, c, asJSON
}

func (t *masterTool) Run(args []string) int {
	err := t.call(args)
	var refused *masterapi.RefusedError
	if errors.As(err, &refused) {
		t.env.report(t.name, err)
		return exitRefused
	}
	return t.env.report(t.name, err)
}

func (t *masterTool) call(args []string) error {
	flags, c, asJSON := t.flagSet()
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	rest := flags.Args()
	if want := min(1, len(t.arg)); len(rest) != want {
		return fmt.Errorf("usage: %s", t.usage())
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, stop := signalContext()
	defer stop()
	call := &toolCall{ctx: ctx, env: t.env, client: client, flags: flags, json: *asJSON}
	if len(rest) == 1 {
		call.arg = rest[0]
	}
	return masterapiconnect.FromError(t.run(call))
}

// AutocompleteFlags completes the names of flags.
func (t *masterTool) AutocompleteFlags() complete.Flags {
	flags, _, _ := t.flagSet()
	table := complete.Flags{}
	flags.VisitAll(func(f *flag.Flag) {
		table["-"+f.Name] = complete.PredictAnything
		if b, ok := f.Value.(interface{ IsBoolFlag() bool }); ok && b.IsBoolFlag() {
			table["-"+f.Name] = complete.PredictNothing
		}
		if strings.HasSuffix(f.Name, "-cert") || strings.HasSuffix(f.Name, "-key") || strings.HasSuffix(f.Name, "-file") {
			table["-"+f.Name] = complete.PredictFiles("*")
		}
	})
	return table
}

// AutocompleteArgs completes the argument: ids from the master, or files.
func (t *masterTool) AutocompleteArgs() complete.Predictor {
	switch {
	case t.arg == "FILE":
		return complete.PredictFiles("*")
	case t.suggest == nil:
		return complete.PredictNothing
	default:
		return complete.PredictFunc(func(complete.Args) []string { return t.suggestions() })
	}
}

// suggestions asks the master named by the environment, briefly; an unreachable one suggests nothing.
func (t *masterTool) suggestions() []string {
	_, c, _ := t.flagSet()
	c.timeout = time.Second
	client, err := c.client()
	if err != nil {
		return nil
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return t.suggest(ctx, client)
}

// text returns the value of a flag of the tool's own.
func (c *toolCall) text(name string) string { return c.flags.Lookup(name).Value.String() }

// isSet reports whether a boolean flag of the tool's own is true.
func (c *toolCall) isSet(name string) bool { return c.text(name) == "true" }

// show prints a message as JSON, or the table.
func (c *toolCall) show(message proto.Message, header string, rows [][]string) error {
	if c.json {
		data, err := protojson.MarshalOptions{Multiline: true, Indent: "  ", EmitUnpopulated: true}.Marshal(message)
		if err != nil {
			return fmt.Errorf("encode: %w", err)
		}
		_, err = fmt.Fprintln(c.env.stdout, string(data))
		return err
	}
	table := tabwriter.NewWriter(c.env.stdout, 0, 0, 2, ' ', 0)
	if header != "" {
		fmt.Fprintln(table, header)
	}
	for _, row := range rows {
		fmt.Fprintln(table, strings.Join(row, "\t"))
	}
	return table.Flush()
}

// done says in one line what was done, unless JSON is wanted.
func (c *toolCall) done(message proto.Message, format string, args ...any) error {
	if c.json {
		return c.show(message, "", nil)
	}
	_, err := fmt.Fprintf(c.env.stdout, format+"\n", args...)
	return err
}

// ago writes a time for people: how long ago, or until when.
func ago(t *timestamppb.Timestamp) string {
	if t == nil {
		return "-"
	}
	d := time.Since(t.AsTime()).Round(time.Second)
	switch {
	case d < 0:
		return "in " + roughly(-d)
	default:
		return roughly(d) + " ago"
	}
}

func roughly(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return d.String()
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func limitFlag(f *flag.FlagSet) { f.Int("limit", 100, "most entries") }

func reasonFlag(f *flag.FlagSet) {
	f.String("reason", "", "why, for the audit and for people who look")
}

func listPeers(c *toolCall) error {
	r, err := c.client.Operator().ListPeers(c.ctx, &masterapi.ListPeersRequest{})
	if err != nil {
		return err
	}
	var rows [][]string
	for _, p := range r.GetPeers() {
		role := "follower"
		if p.GetLeader() {
			role = "leader"
		}
		rows = append(rows, []string{p.GetServerId(), p.GetAddress(), role, yesNo(p.GetVoter()), yesNo(p.GetHealthy()), fmt.Sprint(p.GetLastIndex()), dash(p.GetVersion())})
	}
	return c.show(r, "ID\tADDRESS\tROLE\tVOTER\tHEALTHY\tLAST INDEX\tVERSION", rows)
}

func removePeer(c *toolCall) error {
	r, err := c.client.Operator().RemovePeer(c.ctx, &masterapi.RemovePeerRequest{ServerId: c.arg})
	if err != nil {
		return err
	}
	return c.done(r, "server %s removed", c.arg)
}

func transferLeadership(c *toolCall) error {
	r, err := c.client.Operator().TransferLeadership(c.ctx, &masterapi.TransferLeadershipRequest{})
	if err != nil {
		return err
	}
	return c.done(r, "%s leads", dash(r.GetLeaderId()))
}

func serverStatus(c *toolCall) error {
	r, err := c.client.Operator().ServerStatus(c.ctx, &masterapi.ServerStatusRequest{})
	if err != nil {
		return err
	}
	return c.show(r, "", [][]string{
		{"Server", r.GetServerId()}, {"Address", r.GetAddress()}, {"Role", r.GetRole()}, {"Ready", yesNo(r.GetReady())}, {"Not ready because", dash(r.GetNotReadyReason())},
		{"Leader", dash(r.GetLeaderId()) + " " + r.GetLeaderAddress()}, {"Term", fmt.Sprint(r.GetTerm())},
		{"Last index", fmt.Sprint(r.GetLastIndex())}, {"Applied index", fmt.Sprint(r.GetAppliedIndex())}, {"Version", r.GetVersion()},
	})
}

func listAudit(c *toolCall) error {
	var limit uint32
	if _, err := fmt.Sscan(c.text("limit"), &limit); err != nil {
		return fmt.Errorf("-limit: %w", err)
	}
	r, err := c.client.Operator().ListAudit(c.ctx, &masterapi.ListAuditRequest{Limit: limit})
	if err != nil {
		return err
	}
	var rows [][]string
	for _, e := range r.GetEntries() {
		rows = append(rows, []string{e.GetTime().AsTime().Format(time.RFC3339), e.GetActor(), e.GetAction(), e.GetSubject(), dash(e.GetDetail())})
	}
	return c.show(r, "TIME\tACTOR\tACTION\tSUBJECT\tDETAIL", rows)
}

// saveSnapshot writes next to the file and renames, so that a broken save never replaces a good one.
func saveSnapshot(c *toolCall) (err error) {
	file, err := os.CreateTemp(filepath.Dir(c.arg), ".snapshot-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	err = errors.Join(c.client.SaveSnapshot(c.ctx, file), file.Sync(), file.Close())
	if err != nil {
		return err
	}
	info, err := inspect(file.Name())
	if err != nil {
		return err
	}
	if err := os.Rename(file.Name(), c.arg); err != nil {
		return err
	}
	if c.json {
		return c.env.printJSON(info)
	}
	fmt.Fprintf(c.env.stdout, "saved index %d to %s: %d relays, %d hosts, %d sessions, %d leases\n", info.Index, c.arg, info.Relays, info.Hosts, info.Sessions, info.Leases)
	return nil
}

func restoreSnapshot(c *toolCall) error {
	if _, err := inspect(c.arg); err != nil {
		return err
	}
	file, err := os.Open(c.arg)
	if err != nil {
		return err
	}
	defer file.Close()
	index, err := c.client.RestoreSnapshot(c.ctx, file)
	if err != nil {
		return err
	}
	if c.json {
		return c.env.printJSON(map[string]uint64{"Index": index})
	}
	fmt.Fprintf(c.env.stdout, "restored; the cluster is at index %d\n", index)
	return nil
}

// snapshotInfo is what a snapshot file holds.
type snapshotInfo struct {
	archive.Header
	Relays, Hosts, Sessions, Leases, LiveLeases, Keys, Bans int
}

// inspect reads and verifies a whole snapshot file.
func inspect(path string) (snapshotInfo, error) {
	file, err := os.Open(path)
	if err != nil {
		return snapshotInfo{}, err
	}
	defer file.Close()
	header, body, err := archive.Open(file)
	if err != nil {
		return snapshotInfo{}, fmt.Errorf("%s: %w", path, err)
	}
	s, err := state.Read(body)
	if err != nil {
		return snapshotInfo{}, fmt.Errorf("%s: %w", path, err)
	}
	info := snapshotInfo{Header: header, LiveLeases: s.LiveCount(), Keys: len(s.Keys()), Bans: len(s.Bans(s.Now()))}
	for range s.Relays() {
		info.Relays++
	}
	for range s.Hosts() {
		info.Hosts++
	}
	for range s.Sessions() {
		info.Sessions++
	}
	for range s.Leases() {
		info.Leases++
	}
	return info, nil
}

type snapshotInspect struct{ env *environment }

func (c *snapshotInspect) Synopsis() string { return "Verify a snapshot file and show what it holds" }

func (c *snapshotInspect) Help() string {
	return "Usage: wavry operator snapshot inspect [-json] FILE"
}

func (c *snapshotInspect) Run(args []string) int {
	return c.env.report("operator snapshot inspect", c.run(args))
}

func (c *snapshotInspect) run(args []string) error {
	flags := flag.NewFlagSet("operator snapshot inspect", flag.ContinueOnError)
	flags.SetOutput(c.env.stderr)
	asJSON := flags.Bool("json", false, "print JSON")
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return errors.New("usage: wavry operator snapshot inspect [-json] FILE")
	}
	info, err := inspect(flags.Arg(0))
	if err != nil {
		return err
	}
	if *asJSON {
		return c.env.printJSON(info)
	}
	table := tabwriter.NewWriter(c.env.stdout, 0, 0, 2, ' ', 0)
	for _, row := range [][2]any{
		{"Index", info.Index}, {"Term", info.Term}, {"Time", info.Time.Format(time.RFC3339)}, {"Server", info.Server}, {"Version", info.Version},
		{"Relays", info.Relays}, {"Hosts", info.Hosts}, {"Sessions", info.Sessions}, {"Leases", info.Leases}, {"Live leases", info.LiveLeases},
		{"Keys", info.Keys}, {"Bans", info.Bans},
	} {
		fmt.Fprintf(table, "%v\t%v\n", row[0], row[1])
	}
	return table.Flush()
}
