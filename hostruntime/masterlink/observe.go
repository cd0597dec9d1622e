package masterlink

import (
	"errors"
	"time"

	"github.com/wavry/fleet/hostruntime/session"
	"github.com/wavry/fleet/hostruntime/streamwire"
	"github.com/wavry/fleet/master/lease"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/relay/relaywire"
)

var _ session.Observer = (*Link)(nil)

// ViewerJoined implements session.Observer.
func (l *Link) ViewerJoined(c lease.ViewerClaims, _ bool) {
	l.progress(&masterapi.LeaseProgress{LeaseId: c.Lease, State: masterapi.LeaseState_LEASE_STATE_PRESENTED})
}

// ViewerShown implements session.Observer. A viewer that shows pictures over a newer lease has left its older ones.
func (l *Link) ViewerShown(c lease.ViewerClaims, relayed bool, after time.Duration) {
	path := &masterapi.Candidate{Kind: masterapi.CandidateKind_CANDIDATE_KIND_DIRECT}
	if relayed {
		path = l.relayPath(c.Lease)
	}
	l.progress(&masterapi.LeaseProgress{
		LeaseId: c.Lease, State: masterapi.LeaseState_LEASE_STATE_ACTIVE, Path: path, SetupMilliseconds: float32(after.Seconds() * 1000),
	})
	for _, id := range l.older(c) {
		l.progress(&masterapi.LeaseProgress{LeaseId: id, State: masterapi.LeaseState_LEASE_STATE_RELEASED, Reason: masterapi.Reason_REASON_MOVED})
	}
}

// relayPath is the circuit of a lease as a path.
func (l *Link) relayPath(leaseID string) *masterapi.Candidate {
	l.mu.Lock()
	defer l.mu.Unlock()
	path := &masterapi.Candidate{Kind: masterapi.CandidateKind_CANDIDATE_KIND_RELAY}
	if h := l.leases[leaseID]; h != nil {
		path.RelayId, path.Region = h.relay, h.region
	}
	return path
}

// older lists the other leases of the same viewer that began earlier, and forgets them. Their circuits end when the master, told
// of it, ends the leases, or the old connection is closed.
func (l *Link) older(c lease.ViewerClaims) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	present := l.leases[c.Lease]
	if present == nil {
		return nil
	}
	var ids []string
	for id, h := range l.leases {
		if id != c.Lease && h.session == c.Session && h.viewer == present.viewer && h.expiry.Before(present.expiry) {
			ids = append(ids, id)
			delete(l.leases, id)
		}
	}
	return ids
}

// ViewerLeft implements session.Observer. The viewer may come back within its grace time, so its lease stays; the circuit of a lease
// that it has moved away from does not.
func (l *Link) ViewerLeft(c lease.ViewerClaims) {
	l.mu.Lock()
	left := l.leases[c.Lease] == nil
	l.mu.Unlock()
	if left {
		l.legs.release(c.Lease)
	}
}

// SessionEnded implements session.Observer.
func (l *Link) SessionEnded(id string, why *session.EndedError) {
	l.forgetSession(id)
	l.report(&masterapi.HostReport{Report: &masterapi.HostReport_SessionEnded{SessionEnded: &masterapi.HostSessionEnded{
		SessionId: id, Reason: endReason(why.Code), Message: why.Text,
	}}})
}

func (l *Link) progress(p *masterapi.LeaseProgress) {
	l.report(&masterapi.HostReport{Report: &masterapi.HostReport_LeaseProgress{LeaseProgress: p}})
}

func (l *Link) load() *masterapi.HostLoad {
	return &masterapi.HostLoad{Sessions: uint32(max(0, l.cfg.Slots-l.host.FreeSlots()))}
}

// endReason is the master's word for how a session ended.
func endReason(c streamwire.Code) masterapi.Reason {
	switch c {
	case streamwire.CodeEnded:
		return masterapi.Reason_REASON_USER_ENDED
	case streamwire.CodeLease:
		return masterapi.Reason_REASON_LEASE_EXPIRED
	case streamwire.CodeGrace:
		return masterapi.Reason_REASON_VIEWER_LEFT
	case streamwire.CodeDraining:
		return masterapi.Reason_REASON_HOST_DRAINED
	case streamwire.CodeOperator:
		return masterapi.Reason_REASON_OPERATOR_ENDED
	}
	return masterapi.Reason_REASON_HOST_FAILED
}

// endCode is the viewer's word for why the master ends a session or a lease.
func endCode(r masterapi.Reason) streamwire.Code {
	switch r {
	case masterapi.Reason_REASON_USER_ENDED, masterapi.Reason_REASON_VIEWER_LEFT:
		return streamwire.CodeEnded
	case masterapi.Reason_REASON_HOST_DRAINED:
		return streamwire.CodeDraining
	case masterapi.Reason_REASON_MOVED:
		return streamwire.CodeMoved
	case masterapi.Reason_REASON_LEASE_EXPIRED, masterapi.Reason_REASON_LEASE_REVOKED, masterapi.Reason_REASON_KEY_REVOKED:
		return streamwire.CodeLease
	}
	return streamwire.CodeOperator
}

// sentence prefers what an operator wrote.
func sentence(r masterapi.Reason, message string) string {
	if message != "" {
		return message
	}
	return r.Sentence()
}

// rejectReason is the master's word for why a relay was not bound. The numbers of the closed set are the same on both sides.
func rejectReason(err error) masterapi.Reason {
	var reject *relaywire.RejectError
	if errors.As(err, &reject) {
		return masterapi.Reason(reject.Reason)
	}
	return masterapi.Reason_REASON_RELAY_LOST
}
