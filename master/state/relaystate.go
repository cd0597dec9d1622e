package state

import (
	"slices"
	"strings"

	"github.com/wavry/fleet/master/masterapi"
)

const (
	probation   = masterapi.RelayState_RELAY_STATE_PROBATION
	active      = masterapi.RelayState_RELAY_STATE_ACTIVE
	degraded    = masterapi.RelayState_RELAY_STATE_DEGRADED
	draining    = masterapi.RelayState_RELAY_STATE_DRAINING
	drained     = masterapi.RelayState_RELAY_STATE_DRAINED
	quarantined = masterapi.RelayState_RELAY_STATE_QUARANTINED
	banned      = masterapi.RelayState_RELAY_STATE_BANNED
)

// relayMoves is the state machine of relays. Leaving quarantine or a ban leads through probation; a drained relay that is activated has proven
// nothing since, so it goes through probation too, unless it was still draining.
var relayMoves = map[masterapi.RelayState][]masterapi.RelayState{
	probation:   {active, degraded, draining, quarantined, banned},
	active:      {probation, degraded, draining, quarantined, banned},
	degraded:    {probation, active, draining, quarantined, banned},
	draining:    {drained, active, probation, quarantined, banned},
	drained:     {probation, quarantined, banned},
	quarantined: {probation, draining, banned},
	banned:      {probation, quarantined},
}

// RelayMoveAllowed reports whether the state machine has this move.
func RelayMoveAllowed(from, to masterapi.RelayState) bool {
	return slices.Contains(relayMoves[from], to)
}

// Activation is where an operator's "activate" leads from the given state.
func Activation(from masterapi.RelayState) masterapi.RelayState {
	if RelayMoveAllowed(from, active) {
		return active
	}
	return probation
}

// RelayWord is the state's name for people.
func RelayWord(s masterapi.RelayState) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "RELAY_STATE_"))
}

// HostWord is the state's name for people.
func HostWord(s masterapi.HostStateWord) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "HOST_STATE_"))
}

const (
	hostActive      = masterapi.HostStateWord_HOST_STATE_ACTIVE
	hostDraining    = masterapi.HostStateWord_HOST_STATE_DRAINING
	hostDrained     = masterapi.HostStateWord_HOST_STATE_DRAINED
	hostQuarantined = masterapi.HostStateWord_HOST_STATE_QUARANTINED
	hostPending     = masterapi.HostStateWord_HOST_STATE_PENDING
)

// hostMoves is the state machine of hosts. Into pending and out of it to active leads only what they offer (judged).
var hostMoves = map[masterapi.HostStateWord][]masterapi.HostStateWord{
	hostActive:      {hostDraining, hostQuarantined},
	hostDraining:    {hostDrained, hostActive, hostQuarantined},
	hostDrained:     {hostActive, hostQuarantined},
	hostQuarantined: {hostActive, hostDraining},
	hostPending:     {hostDraining, hostQuarantined},
}

// HostMoveAllowed reports whether the state machine has this move.
func HostMoveAllowed(from, to masterapi.HostStateWord) bool {
	return slices.Contains(hostMoves[from], to)
}

// SelfActor is the actor of a machine that changes its own state; such a drain ends when the machine comes back as a new process.
const SelfActor = "self"

func relayChoices(from masterapi.RelayState) string {
	words := make([]string, 0, len(relayMoves[from]))
	for _, s := range relayMoves[from] {
		words = append(words, RelayWord(s))
	}
	return strings.Join(words, ", ")
}

func hostChoices(from masterapi.HostStateWord) string {
	words := make([]string, 0, len(hostMoves[from]))
	for _, s := range hostMoves[from] {
		words = append(words, HostWord(s))
	}
	return strings.Join(words, ", ")
}
