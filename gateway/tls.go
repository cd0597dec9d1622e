package gateway

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"
)

// listenPeople binds BindAddr, encrypted as configured.
func (g *Gateway) listenPeople(ctx context.Context) (net.Listener, error) {
	config, err := g.tlsConfig(ctx)
	if err != nil {
		return nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", g.cfg.BindAddr)
	if err != nil {
		return nil, fmt.Errorf("open the people's port %s: %w; choose another address, or end the process that holds it", g.cfg.BindAddr, err)
	}
	if config == nil {
		return l, nil
	}
	return tls.NewListener(l, config), nil
}

// tlsConfig is nil for plain HTTP.
func (g *Gateway) tlsConfig(ctx context.Context) (*tls.Config, error) {
	t := g.cfg.TLS
	switch {
	case t.CertFile != "":
		files := &certFiles{cert: t.CertFile, key: t.KeyFile, now: g.cfg.Now, log: g.log}
		if _, err := files.get(nil); err != nil {
			return nil, err
		}
		return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: files.get, NextProtos: []string{"h2", "http/1.1"}}, nil
	case len(t.ACMEDomains) > 0:
		return g.acmeConfig(ctx)
	}
	return nil, nil
}

// certFiles reads a certificate from files and again when they change, at most once per recheck: renewals need no restart.
type certFiles struct {
	cert, key string
	now       func() time.Time
	log       *slog.Logger

	mu      sync.Mutex // guards the following
	loaded  *tls.Certificate
	changed time.Time // of the files as loaded
	checked time.Time
}

// certRecheck is how late a renewed certificate comes into use.
const certRecheck = 10 * time.Second

func (f *certFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	if f.loaded != nil && now.Sub(f.checked) < certRecheck {
		return f.loaded, nil
	}
	f.checked = now
	changed, err := f.modified()
	if err == nil && f.loaded != nil && changed.Equal(f.changed) {
		return f.loaded, nil
	}
	if err == nil {
		var c tls.Certificate
		if c, err = tls.LoadX509KeyPair(f.cert, f.key); err == nil {
			f.loaded, f.changed = &c, changed
			return f.loaded, nil
		}
	}
	if f.loaded != nil { // files in the middle of a change: the old certificate is still good
		f.log.Warn("the changed TLS certificate cannot be used yet; the one before is still served", "err", err)
		return f.loaded, nil
	}
	return nil, fmt.Errorf("load TLS certificate: %w", err)
}

// modified is when the younger of the two files was written.
func (f *certFiles) modified() (time.Time, error) {
	var last time.Time
	for _, path := range []string{f.cert, f.key} {
		info, err := os.Stat(path)
		if err != nil {
			return last, err
		}
		if info.ModTime().After(last) {
			last = info.ModTime()
		}
	}
	return last, nil
}
