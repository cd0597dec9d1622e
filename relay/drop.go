package relay

// drop is why a datagram was discarded. The set is closed; each is a label of wavry_relay_drops_total.
type drop uint8

const (
	dropNone          drop = iota // not dropped
	dropOffer                     // not dropped: to be offered to the host
	dropStranger                  // unknown source, and nothing waits for it on this port
	dropNoise                     // unknown source, and not the plausible beginning of anything
	dropNoPeer                    // the other leg is not there (yet)
	dropRate                      // the lease's rate limit
	dropCandidateRate             // candidate, or all of its circuit's new ones, above their rate
	dropCrowded                   // no room for one more candidate
	dropNoCandidate               // control: answer to a candidate that is gone
	dropNoCredit                  // control: answer longer than what its candidate sent
	dropTaken                     // new address belongs to another circuit on this port
	dropBannedSource              // source address is banned
	dropEmpty                     // no payload
	dropTooBig                    // longer than the way out takes
	dropSendBuffer                // the kernel's send buffer is full
	dropSendError                 // any other error of a send
	dropReceiveBuffer             // the kernel's receive buffer was full
	dropMalformed                 // control: not a packet of ours
	dropMisplaced                 // control: right packet, wrong port, or from a viewer
	dropMAC1                      // control: stranger without the relay's public key
	dropSource                    // control: per-source limit
	dropBusy                      // control: verifiers' queue full
	dropSeal                      // control: token not sealed for us
	dropMAC                       // control: signal not made with the leg key
	dropReplay                    // control: counter already used
	dropUnknown                   // control: no such circuit
	numDrops
)

var dropNames = [numDrops]string{
	"none", "offered", "stranger", "noise", "no_peer", "rate_limited", "candidate_rate", "candidates_crowded", "control_no_candidate",
	"control_no_credit", "address_taken", "banned_source", "empty",
	"too_big", "send_buffer", "send_error", "receive_buffer", "control_malformed", "control_misplaced", "control_mac1",
	"control_source_limit", "control_busy", "control_seal", "control_mac", "control_replayed", "control_unknown_circuit",
}

func (d drop) String() string { return dropNames[d] }
