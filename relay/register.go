package relay

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"

	"github.com/wavry/fleet/master/catalog"
)

// register keeps the relay in the catalog until leaving ends, then takes it out, so that no new circuit is sent to a relay that drains.
// When a successor takes over, the registration stays for it.
func (r *Relay) register(leaving, work context.Context, path dataPath) error {
	keep, end := context.WithCancelCause(context.WithoutCancel(work))
	defer end(nil)
	defer context.AfterFunc(leaving, func() { end(nil) })()
	defer context.AfterFunc(work, func() {
		if errors.Is(context.Cause(work), ErrHandedOver) {
			end(catalog.ErrSucceeded)
		}
		end(nil)
	})()
	return r.cfg.Catalog.Keep(keep, r.registration(path))
}

func (r *Relay) registration(path dataPath) catalog.Registration {
	key, media, address := r.PublicKey(), path.mediaPorts(), r.ControlAddr().String()
	meta := map[string]string{
		catalog.MetaID: r.cfg.ID, "region": r.cfg.Region, "version": r.cfg.Version, "max_circuits": strconv.Itoa(r.cfg.MaxCircuits),
		"address": address, "public_key": base64.StdEncoding.EncodeToString(key[:]),
		"media_ports": fmt.Sprintf("%d-%d", media[0], media[len(media)-1]),
	}
	return catalog.Registration{
		Name: catalog.ServiceRelay, ID: r.cfg.ID, Address: address, CheckURL: r.cfg.CheckURL,
		Meta: func() map[string]string { return meta },
	}
}
