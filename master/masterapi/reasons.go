package masterapi

import "strings"

// sentences say, for each reason, what happened and what to do about it. A test asserts that every reason has one.
var sentences = map[Reason]string{
	Reason_REASON_SIGNATURE_MISMATCH: "The lease was not signed by this fleet; ask for a new desktop, and check that host, relay and master belong to the same cluster.",
	Reason_REASON_UNKNOWN_KEY:        "The key that signed the lease is not known here; refresh the key set and try again, or ask for a new desktop if the key was revoked.",
	Reason_REASON_WRONG_RELAY:        "The lease names another relay; use the relay the lease was issued for.",
	Reason_REASON_EXPIRED:            "The lease has expired; ask for a new desktop, and check the clocks if this happens at once.",
	Reason_REASON_NOT_YET_VALID:      "The lease is not valid yet; check the clocks of master, relay and host.",
	Reason_REASON_REPLAYED:           "The lease was already used by somebody else; ask for a new desktop.",
	Reason_REASON_RELAY_FULL:         "The relay has no free circuit; try again and another relay will be chosen, or add relays.",
	Reason_REASON_RATE_LIMITED:       "Too many requests; wait a moment and try again.",
	Reason_REASON_BANNED:             "Access is banned; ask an operator to lift the ban.",
	Reason_REASON_DRAINING:           "It is being emptied and takes nothing new; try again and another one will be chosen.",
	Reason_REASON_WRONG_USE:          "The token is for something else: a viewer shows the viewer's token to the host, a host the circuit's token to the relay.",

	Reason_REASON_INVALID_REQUEST:        "The request is not valid; correct what the detail names.",
	Reason_REASON_NO_FREE_HOST:           "Every desktop of this pool is in use or unhealthy; wait, end a session, or add hosts to the pool.",
	Reason_REASON_POOL_UNKNOWN:           "No host of this pool has ever joined; check the pool's name and that its hosts reach the master.",
	Reason_REASON_NO_RELAY:               "No healthy relay can take the session; start or activate a relay, or allow direct connections.",
	Reason_REASON_HOST_UNREACHABLE:       "The host has no link to the master just now; try again in a few seconds.",
	Reason_REASON_HOST_PREPARE_FAILED:    "The host could not prepare the desktop; try again, and look at the host's log if it repeats.",
	Reason_REASON_NO_SIGNING_KEY:         "The master has no usable signing key; give every server the right key-encryption key and run wavry keys status.",
	Reason_REASON_NOT_READY:              "The master has no leader or is still catching up; try again in a moment.",
	Reason_REASON_SESSION_UNKNOWN:        "There is no such session; it may have ended long ago.",
	Reason_REASON_SESSION_ENDED:          "The session has ended; ask for a new desktop.",
	Reason_REASON_LEASE_UNKNOWN:          "There is no such lease; it may have ended long ago.",
	Reason_REASON_LEASE_ENDED:            "The lease has ended; ask for a new desktop.",
	Reason_REASON_RELAY_UNKNOWN:          "There is no such relay; run wavry relay list.",
	Reason_REASON_HOST_UNKNOWN:           "There is no such host; run wavry host list.",
	Reason_REASON_KEY_UNKNOWN:            "There is no such key; run wavry keys status.",
	Reason_REASON_TRANSITION_REFUSED:     "That change of state is not allowed from the present one; the detail names the allowed ones.",
	Reason_REASON_REQUEST_CONFLICT:       "The request id was already used for something else; use a new one.",
	Reason_REASON_UNAUTHENTICATED:        "The caller did not prove who it is; present a service certificate or token.",
	Reason_REASON_PERMISSION_DENIED:      "This service may not do that; use an identity with the right role.",
	Reason_REASON_SESSION_HAS_CONTROLLER: "Somebody else controls the session; join as a watcher or replace the controller.",
	Reason_REASON_BUSY:                   "The master has too many requests waiting; try again in a moment.",

	Reason_REASON_USER_ENDED:          "The session was ended by its user.",
	Reason_REASON_OPERATOR_ENDED:      "An operator ended the session; ask for a new desktop or ask the operator why.",
	Reason_REASON_LEASE_EXPIRED:       "Nobody renewed the lease in time; ask for a new desktop.",
	Reason_REASON_LEASE_REVOKED:       "An operator revoked the lease; ask for a new desktop or ask the operator why.",
	Reason_REASON_KEY_REVOKED:         "The key behind the lease was revoked; ask for a new desktop.",
	Reason_REASON_HOST_RESTARTED:      "The host restarted and the session was lost; ask for a new desktop.",
	Reason_REASON_HOST_LOST:           "The host left the fleet; ask for a new desktop.",
	Reason_REASON_HOST_DRAINED:        "The host is taken out of service; ask for a new desktop on another host.",
	Reason_REASON_MOVED:               "The viewer moved to another path.",
	Reason_REASON_RELAY_LOST:          "The relay is gone; the viewer is moved to another one.",
	Reason_REASON_HOST_FAILED:         "The host could not keep the desktop running; ask for a new desktop.",
	Reason_REASON_ADMISSION_ABANDONED: "The admission was given up before a viewer connected; ask for a new desktop.",
	Reason_REASON_VIEWER_LEFT:         "The viewer left and did not come back in time.",
}

// Slug is the reason's name in logs, metrics and JSON for people: "no_free_host". Unknown numbers give "unspecified".
func (r Reason) Slug() string {
	name, ok := Reason_name[int32(r)]
	if !ok {
		name = Reason_name[0]
	}
	return strings.ToLower(strings.TrimPrefix(name, "REASON_"))
}

// Sentence says what happened and what to do; it is empty for unspecified and unknown reasons.
func (r Reason) Sentence() string { return sentences[r] }

// ReasonFromSlug is the inverse of Slug.
func ReasonFromSlug(slug string) (Reason, bool) {
	n, ok := Reason_value["REASON_"+strings.ToUpper(slug)]
	return Reason(n), ok && slug != ""
}
