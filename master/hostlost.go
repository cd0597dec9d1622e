package master

import (
	"time"

	"github.com/wavry/fleet/master/catalog"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/state"
)

// hostLost is how long a host must be both critical in the catalog and without a link before its sessions are ended: a host that
// restarts takes longer, and its sessions are gone with it; one that merely lost the master still answers its check.
const hostLost = 4 * time.Second

// endOnLostHosts ends the sessions of hosts that are gone, so that people are told and slots are free. Without a catalog nobody can
// tell a lost host from a lost link, and leases simply run out.
func (l *leader) endOnLostHosts() {
	for _, host := range l.lostHosts(l.m.cfg.Now()) {
		var sessions []string
		l.m.read(func(s *state.State) { sessions = s.SessionsOn(host) })
		for _, id := range sessions {
			l.log.Warn("session lost its host", "session_id", id, "host_id", host)
			l.later(&state.EndSession{
				ID: id, Reason: masterapi.Reason_REASON_HOST_LOST, Message: "The machine that ran this desktop was lost. Connect again to get another.",
			})
		}
	}
}

func (l *leader) lostHosts(now time.Time) []string {
	l.fleet.mu.RLock()
	defer l.fleet.mu.RUnlock()
	if l.fleet.stale[catalog.ServiceHost] || !l.fleet.settled() {
		return nil
	}
	var lost []string
	for id, h := range l.fleet.hosts {
		if h.health.GoneFor(now) > hostLost {
			lost = append(lost, id)
		}
	}
	return lost
}
