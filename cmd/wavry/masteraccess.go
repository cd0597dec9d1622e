package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/wavry/fleet/master/catalog"
	"github.com/wavry/fleet/master/identity"
	"github.com/wavry/fleet/master/masterclient"
)

// masterAccess is how a service finds the masters and shows who it is.
type masterAccess struct {
	addresses []string
	files     identity.Files
	tokenFile string                                      // read for each request, so that a workload identity may be renewed
	resolve   func(ctx context.Context) ([]string, error) // finds further addresses; nil: addresses only
}

// tokenFrom reads a bearer token from a file for each request, so that it may be renewed.
func tokenFrom(path string) func() (string, error) {
	return func() (string, error) {
		text, err := os.ReadFile(path)
		return strings.TrimSpace(string(text)), err
	}
}

func (a masterAccess) client(log *slog.Logger) (*masterclient.Client, error) {
	if a.files.Authority == "" {
		return nil, errors.New("master_ca_file: empty: a master is known by its certificate, also on loopback; name the authority's")
	}
	source, err := a.files.Load()
	if err != nil {
		return nil, fmt.Errorf("master_ca_file, master_cert_file, master_key_file: %w", err)
	}
	cfg := masterclient.Config{Addresses: a.addresses, Resolve: a.resolve, Logger: log, TLS: source.Client(identity.RoleMaster)}
	if a.tokenFile != "" {
		cfg.Token = tokenFrom(a.tokenFile)
	}
	client, err := masterclient.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("master_addrs: %w", err)
	}
	return client, nil
}

// mastersIn looks for masters in a catalog.
func mastersIn(c catalog.Catalog) func(ctx context.Context) ([]string, error) {
	return func(ctx context.Context) ([]string, error) {
		instances, err := c.Instances(ctx, catalog.ServiceMaster)
		if err != nil {
			return nil, fmt.Errorf("look for masters in the catalog: %w", err)
		}
		var addresses []string
		for _, i := range instances {
			addresses = append(addresses, i.Address)
		}
		return addresses, nil
	}
}
