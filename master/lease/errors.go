package lease

import "errors"

// Each refusal of VerifyViewer and VerifyCircuit is one of these sentinels; they map one to one to masterapi's reject reasons.
var (
	// ErrMalformed is returned for anything that is not a v4.public token with our claims; nothing was verified.
	ErrMalformed = errors.New("malformed lease token")
	// ErrUnknownKey is returned when no key of the set has the token's key id; the caller should refresh its key set.
	ErrUnknownKey = errors.New("lease signed by an unknown key")
	// ErrSignatureMismatch is returned when the signature does not fit the key named in the footer.
	ErrSignatureMismatch = errors.New("lease signature mismatch")
	// ErrWrongUse is returned for a genuine token of the other use: a circuit's shown as a viewer's, or a viewer's shown to a relay.
	ErrWrongUse = errors.New("lease token of another use")
	// ErrExpired is returned when the lease ended more than Skew ago.
	ErrExpired = errors.New("lease expired")
	// ErrNotYetValid is returned when the lease begins more than Skew from now.
	ErrNotYetValid = errors.New("lease not yet valid")
)
