package relay

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"time"

	"github.com/wavry/fleet/master/lease"
)

// FileControl is a Control that reads the policy from a JSON file and reads it again when it changes: for tests, and for a relay
// that stands alone.
//
//	{"keys":[{"kid":"k1","public":"<base64>"}],"revoked":[],"banned_hosts":[],"banned_sources":["192.0.2.0/24"],"draining":false}
type FileControl struct {
	Path   string
	Every  time.Duration // how often to look; 0 means 1 s
	Logger *slog.Logger
}

type filePolicy struct {
	Keys          []lease.Key    `json:"keys"`
	Revoked       []string       `json:"revoked"`
	BannedHosts   []string       `json:"banned_hosts"`
	BannedSources []netip.Prefix `json:"banned_sources"`
	Draining      bool           `json:"draining"`
	DrainBy       time.Time      `json:"drain_by"`
}

// Follow implements Control.
func (f FileControl) Follow(ctx context.Context, _ func() Self, apply func(Policy) error) error {
	every := f.Every
	if every == 0 {
		every = time.Second
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	var last string
	for {
		if text, err := f.refresh(last, apply); err != nil {
			logger(f.Logger).Warn("policy file not applied", "path", f.Path, "err", err)
		} else {
			last = text
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// refresh applies the file if its text differs from last, and returns its text.
func (f FileControl) refresh(last string, apply func(Policy) error) (string, error) {
	b, err := os.ReadFile(f.Path)
	if err != nil {
		return last, err
	}
	if string(b) == last {
		return last, nil
	}
	var p filePolicy
	if err := json.Unmarshal(b, &p); err != nil {
		return last, fmt.Errorf("parse %s: %w", f.Path, err)
	}
	return string(b), apply(Policy(p))
}

// Circuit implements Control: a file has no ear.
func (f FileControl) Circuit(CircuitEvent) {}

// Report implements Control.
func (f FileControl) Report(context.Context, Load) error { return nil }

// logger returns l, or one that discards.
func logger(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}
