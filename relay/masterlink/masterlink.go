// Package masterlink connects a relay to the master: keys, revocations, bans and drains come down, load and circuits go up.
//
// While the master is away the relay goes on with what it was told last; the key set also survives a restart of the relay, in a file.
package masterlink

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/wavry/fleet/master/lease"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/masterclient"
	"github.com/wavry/fleet/relay"
)

// Config is what a link needs.
type Config struct {
	Client *masterclient.Client // required
	// KeyFile keeps the key set. Empty: keys are lost with the process.
	KeyFile string
	Now     func() time.Time // the relay's wall clock; nil: time.Now
	Logger  *slog.Logger     // nil discards
}

// Link implements relay.Control.
type Link struct {
	cfg      Config
	log      *slog.Logger
	verifier *masterclient.Verifier
	boot     string

	mu    sync.Mutex // guards the following
	link  *masterclient.RelayLink
	apply func(relay.Policy) error
	// The parts of the policy, each as it came last.
	revoked  []string
	bans     []*masterapi.Ban
	draining bool
	told     bool // the relay's own wish to drain was reported on this link
}

// New reads the key file.
func New(cfg Config) (*Link, error) {
	if cfg.Client == nil {
		return nil, errors.New("link to the master: no client")
	}
	v, err := masterclient.NewVerifier(cfg.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("link to the master: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	boot := make([]byte, 8)
	rand.Read(boot) // never fails (crypto/rand)
	return &Link{cfg: cfg, log: cfg.Logger.With("component", "masterlink"), verifier: v, boot: hex.EncodeToString(boot)}, nil
}

// Linked reports whether the master has welcomed this relay and the link still stands.
func (l *Link) Linked() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.link != nil && l.link.Linked()
}

// Follow implements relay.Control.
func (l *Link) Follow(ctx context.Context, self func() relay.Self, apply func(relay.Policy) error) error {
	link := l.cfg.Client.NewRelayLink(func() *masterapi.RelayHello { return l.hello(self()) }, l.command)
	l.mu.Lock()
	l.link, l.apply = link, apply
	l.mu.Unlock()
	if l.verifier.Ready() { // keys of a life before
		l.enforce()
	}
	return link.Run(ctx)
}

func (l *Link) hello(s relay.Self) *masterapi.RelayHello {
	l.mu.Lock()
	l.told = s.Draining
	l.mu.Unlock()
	return &masterapi.RelayHello{
		RelayId: s.RelayID, Region: s.Region, Version: s.Version, BootId: l.boot, PublicKey: s.PublicKey[:],
		ControlAddress:   net.JoinHostPort(s.ControlAddr.Addr().String(), fmt.Sprint(s.ControlAddr.Port())),
		CapacityCircuits: uint32(s.MaxCircuits), CapacityBps: s.CapacityBits, Draining: s.Draining, Successor: s.Successor,
	}
}

// command takes one command of the master. It runs on the link's goroutine.
func (l *Link) command(c *masterapi.RelayCommand) {
	switch c := c.GetCommand().(type) {
	case *masterapi.RelayCommand_Welcome:
		l.welcome(c.Welcome)
	case *masterapi.RelayCommand_KeySet:
		l.setKeys(c.KeySet)
	case *masterapi.RelayCommand_Revocations:
		l.change(func() { l.revoked = c.Revocations.GetLeaseIds() })
	case *masterapi.RelayCommand_Bans:
		l.change(func() { l.bans = c.Bans.GetBans() })
	case *masterapi.RelayCommand_Drain:
		l.log.Info("told to drain", "cause", c.Drain.GetReason())
		l.change(func() { l.draining = true })
	case *masterapi.RelayCommand_Activate:
		l.log.Info("told to serve", "state", c.Activate.GetState())
		l.change(func() { l.draining = false })
	default:
		l.log.Warn("command of a newer master ignored", "command", fmt.Sprintf("%T", c))
		return
	}
	l.enforce()
}

// skewWarning is how far the clocks may differ before somebody should look: a quarter of what leases forgive.
const skewWarning = lease.Skew / 4

func (l *Link) welcome(w *masterapi.Welcome) {
	l.setKeys(w.GetKeySet())
	l.change(func() {
		l.revoked = w.GetRevocations().GetLeaseIds()
		l.draining = leaving(w.GetState())
	})
	if now := w.GetNow(); now != nil {
		if skew := l.cfg.Now().Sub(now.AsTime()); skew.Abs() > skewWarning {
			l.log.Warn(fmt.Sprintf("this clock and the master's differ; set it right, leases forgive %v", lease.Skew), "cause", skew.String())
		}
	}
}

// leaving are the state words in which a relay takes no new circuit.
func leaving(state string) bool {
	return state == "draining" || state == "drained" || state == "quarantined" || state == "banned"
}

func (l *Link) setKeys(set *masterapi.KeySet) {
	if err := l.verifier.SetKeys(set); err != nil {
		l.log.Error("key set not taken over", "err", err)
	}
}

func (l *Link) change(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// enforce gives the relay the whole policy.
func (l *Link) enforce() {
	l.mu.Lock()
	apply := l.apply
	p := relay.Policy{Keys: l.verifier.KeySet().Keys(), Revoked: l.revoked, Draining: l.draining}
	for _, b := range l.bans {
		addBan(&p, b, l.cfg.Now())
	}
	l.mu.Unlock()
	if err := apply(p); err != nil {
		l.log.Error("policy not applied; the one before stays in force", "err", err)
	}
}

// addBan adds what concerns a relay; the rest is for gateways. The master sends the list again when a ban ends.
func addBan(p *relay.Policy, b *masterapi.Ban, now time.Time) {
	if e := b.GetExpiry(); e != nil && now.After(e.AsTime()) {
		return
	}
	switch b.GetKind() {
	case masterapi.Ban_KIND_HOST:
		p.BannedHosts = append(p.BannedHosts, b.GetSubject())
	case masterapi.Ban_KIND_ADDRESS:
		if prefix, err := netip.ParsePrefix(b.GetSubject()); err == nil {
			p.BannedSources = append(p.BannedSources, prefix.Masked())
		} else if addr, err := netip.ParseAddr(b.GetSubject()); err == nil {
			addr = addr.Unmap()
			p.BannedSources = append(p.BannedSources, netip.PrefixFrom(addr, addr.BitLen()))
		}
	}
}

// Circuit implements relay.Control. A report that cannot be queued is lost: the lease's end says the same.
func (l *Link) Circuit(e relay.CircuitEvent) {
	r := &masterapi.RelayReport{Report: &masterapi.RelayReport_CircuitBound{
		CircuitBound: &masterapi.CircuitBound{Circuit: e.Circuit, LeaseId: e.Lease},
	}}
	if e.Ended {
		r.Report = &masterapi.RelayReport_CircuitEnded{CircuitEnded: &masterapi.CircuitEnded{
			Circuit: e.Circuit, LeaseId: e.Lease, Reason: reasonOf(e.Cause), Succeeded: e.Succeeded, Bytes: e.Bytes, Packets: e.Packets,
			Seconds: uint32(e.Age / time.Second),
		}}
	}
	if err := l.send(r); err != nil {
		l.log.Debug("circuit not reported", "lease_id", e.Lease, "err", err)
	}
}

// reasonOf maps the relay's ends to the fleet's reasons.
func reasonOf(cause string) masterapi.Reason {
	switch cause {
	case "expired":
		return masterapi.Reason_REASON_LEASE_EXPIRED
	case "revoked":
		return masterapi.Reason_REASON_LEASE_REVOKED
	case "host_idle":
		return masterapi.Reason_REASON_HOST_LOST
	case "viewer_idle", "no_viewer":
		return masterapi.Reason_REASON_VIEWER_LEFT
	default:
		return masterapi.Reason_REASON_USER_ENDED
	}
}

func (l *Link) send(r *masterapi.RelayReport) error {
	l.mu.Lock()
	link := l.link
	l.mu.Unlock()
	if link == nil {
		return masterclient.ErrNotLinked
	}
	return link.Send(r)
}

// Report implements relay.Control. While the link is down there is nobody to tell, which is no error of the report.
func (l *Link) Report(_ context.Context, load relay.Load) error {
	l.reportWish(load)
	err := l.send(&masterapi.RelayReport{Report: &masterapi.RelayReport_Load{Load: &masterapi.RelayLoad{
		Circuits: uint32(load.Circuits), BitsPerSecond: uint64(load.BitsPerSecond), PacketsPerSecond: uint64(load.PacketsPerSecond),
		Cpu: float32(load.CPU), Overloaded: load.Overloaded, CircuitsSucceeded: load.Succeeded, CircuitsFailed: load.Failed, Rejects: load.Rejects,
	}}})
	if errors.Is(err, masterclient.ErrNotLinked) {
		return nil
	}
	return err
}

// reportWish tells the master once that the relay wants to leave.
func (l *Link) reportWish(load relay.Load) {
	l.mu.Lock()
	tell := load.Leaving && !l.told
	l.mu.Unlock()
	if !tell {
		return
	}
	err := l.send(&masterapi.RelayReport{Report: &masterapi.RelayReport_State{State: &masterapi.HostState{Draining: true, Reason: "the relay is stopping"}}})
	if err == nil {
		l.change(func() { l.told = true })
	}
}
