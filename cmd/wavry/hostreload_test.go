package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wavry/fleet/master/masterclient"
)

// syncBuffer is a log that is read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// TestHangup proves that SIGHUP applies another order of plugins from the configuration file, says what needs a restart, keeps the old
// configuration when the new one is wrong, and refuses an order that names nothing.
func TestHangup(t *testing.T) {
	dir := fakePlugins(t, "idle=false", "wavry-capture-fake", "wavry-encode-fake", "wavry-encode-other")
	file := filepath.Join(t.TempDir(), "host.hcl")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`encode = ["encode-fake"]`)
	var log syncBuffer
	c := &hostCommand{env: &environment{stdout: &log, stderr: &log}}
	args := []string{"-config", file, "-plugin-dirs", dir, "-state-dir", t.TempDir()}
	cfg, _, err := c.parse(args)
	if err != nil {
		t.Fatal(err)
	}
	client, err := masterclient.New(masterclient.Config{Addresses: []string{"127.0.0.1:1"}, TLS: &tls.Config{}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	host, err := wireFleetHost(cfg, slog.New(slog.NewTextHandler(&log, nil)), nil, nil, client, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { host.keepFingerprint(ctx); close(done) }()
	defer func() { cancel(); <-done }()
	defer onHangup(func() {
		cfg, _, err := c.parse(args)
		host.reload(cfg, err)
	})()
	until := func(what string, ok func() bool) {
		t.Helper()
		deadline := time.After(30 * time.Second)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for !ok() {
			select {
			case <-tick.C:
			case <-deadline:
				t.Fatalf("never: %s\n%s", what, log.String())
			}
		}
	}
	encoder := func(name string) func() bool {
		return func() bool { return host.capabilities().GetEncoderPlugin() == name+"/fake" }
	}
	hangup := func(text string) {
		t.Helper()
		write(text)
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	until("the first order", encoder("encode-fake"))
	hangup("encode = [\"encode-other\"]\nmax_fps = 30")
	until("the second order", encoder("encode-other"))
	if text := log.String(); !strings.Contains(text, "restart the host") || !strings.Contains(text, "key=max_fps") || strings.Contains(text, "key=encode") {
		t.Error(text)
	}
	hangup(`encode = [`)
	until("a wrong file is said", func() bool { return strings.Contains(log.String(), "the old one holds") })
	hangup(`encode = ["encode-nothing"]`)
	until("refused", func() bool {
		return strings.Contains(host.capabilities().GetAttributes()["refused"], "there is no wavry-encode-nothing in "+dir)
	})
	if !encoder("encode-other")() {
		t.Error("a refused order changed the choice")
	}
	if err := host.ready(); err == nil || !strings.Contains(err.Error(), "master") {
		t.Error("ready:", err)
	}
}
