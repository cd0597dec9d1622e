package masterapi

import "fmt"

// CheckID returns nil for an id the fleet accepts: 1 to MaxIDLen printable ASCII bytes without spaces and without '/' (ids appear in paths). name
// is the field, for the error, which is a *RefusedError.
func CheckID(name, id string) error {
	if id == "" {
		return Refuse(Reason_REASON_INVALID_REQUEST, "%s is empty", name)
	}
	if len(id) > MaxIDLen {
		return Refuse(Reason_REASON_INVALID_REQUEST, "%s has %d bytes, at most %d", name, len(id), MaxIDLen)
	}
	for i := range len(id) {
		if c := id[i]; c <= ' ' || c > '~' || c == '/' {
			return Refuse(Reason_REASON_INVALID_REQUEST, "%s %s has a byte that is not allowed: use printable ASCII without spaces and slashes", name, fmt.Sprintf("%q", id))
		}
	}
	return nil
}
