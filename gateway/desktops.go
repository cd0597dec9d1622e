package gateway

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/master/masterapi"
)

// hostList is the master's list of hosts, shared by everybody who looks for hostsFresh.
type hostList struct {
	mu    sync.Mutex // guards the following; held while asking, so that one asks and the others wait
	at    time.Time
	hosts []*masterapi.Host
}

func (l *hostList) fresh(ctx context.Context, m Master, now time.Time) ([]*masterapi.Host, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if age := now.Sub(l.at); l.hosts != nil && age >= 0 && age < hostsFresh {
		return l.hosts, nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	list, err := m.Fleet().ListHosts(ctx, &masterapi.ListHostsRequest{})
	if err != nil {
		return nil, fromMaster(err)
	}
	l.at, l.hosts = now, list.GetHosts()
	return l.hosts, nil
}

// desktops lists the pools that the caller may use.
func desktops(c *call) (any, error) {
	hosts, err := c.gw.hosts.fresh(c.Context(), c.gw.cfg.Master, c.now())
	if err != nil {
		return nil, err
	}
	rules, err := c.open.store.Rules(c.Context())
	if err != nil {
		return nil, err
	}
	titles, err := c.open.store.Titles(c.Context())
	if err != nil {
		return nil, err
	}
	list := slices.DeleteFunc(desktopsOf(hosts, titles), func(d signalapi.Desktop) bool {
		return !allowed(c.gw.cfg.OpenPools, rules, c.in.User, d.Pool)
	})
	return list, nil
}

// desktopsOf groups hosts by pool, sorted by title.
func desktopsOf(hosts []*masterapi.Host, titles map[string]string) []signalapi.Desktop {
	pools := map[string]*signalapi.Desktop{}
	for _, h := range hosts {
		d := pools[h.GetPool()]
		if d == nil {
			d = &signalapi.Desktop{Pool: h.GetPool(), Title: titles[h.GetPool()]}
			if d.Title == "" {
				d.Title = h.GetPool()
			}
			pools[h.GetPool()] = d
		}
		if d.Compositor == "" {
			d.Compositor, d.Encoder = h.GetCapabilities().GetCompositor(), h.GetCapabilities().GetEncoderPlugin()
		}
		if usable(h) {
			d.Slots += int(h.GetSlots())
			d.Free += max(int(h.GetSlots())-int(h.GetSlotsUsed()), 0)
		}
	}
	list := make([]signalapi.Desktop, 0, len(pools))
	for _, d := range pools {
		d.Reason = whyNot(*d)
		list = append(list, *d)
	}
	slices.SortFunc(list, func(a, b signalapi.Desktop) int {
		return strings.Compare(a.Title+"\x00"+a.Pool, b.Title+"\x00"+b.Pool)
	})
	return list
}

// usable is what the master will most likely think, too; its answer to an admission counts.
func usable(h *masterapi.Host) bool {
	health := h.GetHealth().GetStatus()
	return h.GetState() == masterapi.HostStateWord_HOST_STATE_ACTIVE && health != "critical" && h.GetHealth().GetLinked()
}

func whyNot(d signalapi.Desktop) string {
	switch {
	case d.Slots == 0:
		return signalapi.ReasonHostUnavailable
	case d.Free == 0:
		return masterapi.Reason_REASON_NO_FREE_HOST.Slug()
	}
	return ""
}
