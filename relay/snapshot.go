package relay

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/wavry/fleet/relay/relaywire"
)

// snapshot is what a successor needs to go on: circuits and policy. Times are ages, because each process has its own clock.
type snapshot struct {
	Policy   Policy          `json:"policy"`
	Draining bool            `json:"draining"`
	Circuits []circuitRecord `json:"circuits"`
}

// circuitRecord is one circuit in a snapshot. It holds the leg key: it goes through a unix socket of mode 0600 only.
type circuitRecord struct {
	ID         uint64              `json:"id"`
	Port       uint16              `json:"port"`
	Named      bool                `json:"named"`
	ViewAt     netip.Addr          `json:"view_at,omitzero"`
	Host       netip.AddrPort      `json:"host"`
	Viewer     netip.AddrPort      `json:"viewer,omitzero"`
	Rate       uint64              `json:"rate"`
	Expiry     int64               `json:"expiry"`
	Secret     relaywire.Key       `json:"secret"`
	Counter    uint64              `json:"counter"`
	Lease      string              `json:"lease"`
	HostID     string              `json:"host_id"`
	HostKey    relaywire.PublicKey `json:"host_key"`
	BindTime   int64               `json:"bind_time"`
	BindID     uint64              `json:"bind_id"`
	Began      time.Duration       `json:"began"`
	HostSeen   time.Duration       `json:"host_seen"`
	ViewerSeen time.Duration       `json:"viewer_seen"`
	Candidates uint32              `json:"candidates"`
	Confirmed  uint32              `json:"confirmed"`
	OffersOut  uint64              `json:"offers_out"`
	AnswersIn  uint64              `json:"answers_in"`
}

// export lists all circuits. The data path stands still meanwhile.
func (c *core) export(now int64) []circuitRecord {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]circuitRecord, 0, len(c.circuits))
	for _, ci := range c.circuits {
		r := circuitRecord{
			ID: ci.id, Port: ci.port, Named: ci.named, ViewAt: ci.viewAt, Host: ci.host.Load().key.remote(), Rate: ci.rate,
			Expiry: ci.expiry.Load(), Secret: *ci.secret.Load(), Counter: ci.counter.Load(), Lease: ci.lease, HostID: ci.hostID,
			HostKey: ci.hostKey, BindTime: ci.bindTime, BindID: ci.bindID, Began: time.Duration(now - ci.began),
			HostSeen: time.Duration(now - ci.hostSeen.Load()), Candidates: ci.candidateIDs, Confirmed: ci.confirmed, OffersOut: ci.offersOut,
			AnswersIn: ci.answersIn,
		}
		if v := ci.viewer.Load(); v != nil {
			r.Viewer = v.key.remote()
			r.ViewerSeen = time.Duration(now - ci.viewerSeen.Load())
		}
		list = append(list, r)
	}
	return list
}

// restore enters the circuits of a snapshot into an empty core with the given number of media ports.
func (c *core) restore(list []circuitRecord, ports int, now int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ports = make([]portState, ports)
	for _, r := range list {
		if int(r.Port) >= ports || !r.Host.IsValid() || r.Rate < minRate || c.circuits[r.ID] != nil {
			return fmt.Errorf("snapshot: circuit %d is not possible", r.ID)
		}
		ci := &circuit{
			id: r.ID, port: r.Port, named: r.Named, viewAt: r.ViewAt, lease: r.Lease, hostID: r.HostID, hostKey: r.HostKey,
			bindTime: r.BindTime, bindID: r.BindID, began: now - int64(r.Began),
			candidateIDs: r.Candidates, confirmed: r.Confirmed, offersOut: r.OffersOut, answersIn: r.AnswersIn,
		}
		ci.setRate(r.Rate)
		ci.expiry.Store(r.Expiry)
		ci.secret.Store(&r.Secret)
		ci.counter.Store(r.Counter)
		ci.hostSeen.Store(now - int64(r.HostSeen))
		c.add(ci, makeKey(r.Host, int(r.Port)))
		if r.Viewer.IsValid() {
			c.setViewer(ci, makeKey(r.Viewer, int(r.Port)), now)
			ci.viewerSeen.Store(now - int64(r.ViewerSeen))
		}
	}
	return nil
}
