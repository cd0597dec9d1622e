package relaywire

// Reason says why a relay refuses a BIND. The set is closed and is the one of the whole product: master, gateway, relay and
// host use the same names.
type Reason uint8

// The reasons. Numbers are never reused.
const (
	SignatureMismatch Reason = 1
	UnknownKey        Reason = 2
	WrongRelay        Reason = 3
	Expired           Reason = 4
	NotYetValid       Reason = 5
	Replayed          Reason = 6
	RelayFull         Reason = 7
	RateLimited       Reason = 8
	Banned            Reason = 9
	Draining          Reason = 10
	WrongUse          Reason = 11
)

// Reasons lists all of them, in the order of their numbers.
var Reasons = []Reason{SignatureMismatch, UnknownKey, WrongRelay, Expired, NotYetValid, Replayed, RelayFull, RateLimited, Banned, Draining, WrongUse}

var reasonText = [...]struct{ name, help string }{
	SignatureMismatch: {"signature_mismatch", "the lease was not signed by the key it names, or not for this host: ask the master for a new lease"},
	UnknownKey:        {"unknown_key", "the relay does not know the signing key, or the key was revoked: ask for a new lease"},
	WrongRelay:        {"wrong_relay", "the lease is for another relay: use the address the grant names"},
	Expired:           {"expired", "the lease has ended: renew it before it ends, or ask for a new one; if it should not have, compare the clocks of master and relay"},
	NotYetValid:       {"not_yet_valid", "the lease begins later: compare the clocks of master and relay"},
	Replayed:          {"replayed", "this request, or a later one, was already used, or the clocks of host and relay are minutes apart: send a fresh BIND"},
	RelayFull:         {"relay_full", "the relay has no free circuit or port: ask for another relay"},
	RateLimited:       {"rate_limited", "too many control packets from this address: wait as told"},
	Banned:            {"banned", "the lease was revoked, or its host or address is banned: ask the operator"},
	Draining:          {"draining", "the relay is leaving: ask for another relay"},
	WrongUse:          {"wrong_use", "the token is a viewer's: bind with the circuit's token of the same lease"},
}

// String is the reason's name in APIs, logs and metrics.
func (r Reason) String() string {
	if r == 0 || int(r) >= len(reasonText) {
		return "unknown_reason"
	}
	return reasonText[r].name
}

// Help is a sentence that says what to do.
func (r Reason) Help() string {
	if r == 0 || int(r) >= len(reasonText) {
		return "the relay is newer than this program: update it"
	}
	return reasonText[r].help
}

// RejectError is a refusal by a relay.
type RejectError struct {
	Reason Reason
	// RetryAfterMillis is how long to wait before another try with the same relay; 0 means not to try it again with this lease.
	RetryAfterMillis uint32
}

func (e *RejectError) Error() string {
	return "relay refused: " + e.Reason.String() + ": " + e.Reason.Help()
}
