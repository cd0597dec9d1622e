package gateway

import (
	"context"

	"github.com/wavry/fleet/master/catalog"
)

// register keeps the gateway in the catalog until ctx ends, then takes it out.
func (g *Gateway) register(ctx context.Context) error {
	c := g.cfg.Consul
	if c == nil {
		return nil
	}
	meta := map[string]string{"gateway_id": g.cfg.ID, "version": g.cfg.Version}
	return c.Catalog.Keep(ctx, catalog.Registration{
		Name: c.Service, ID: g.cfg.ID, Address: c.AdvertiseAddr, Tags: c.Tags, CheckURL: "http://" + c.AdvertiseOps + pathReady,
		Meta: func() map[string]string { return meta },
	})
}
