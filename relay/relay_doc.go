// Package relay is the blind relay: a UDP forwarder that pairs a host leg and a viewer leg into a circuit and forwards between
// them what it cannot read.
//
// It is not a TURN server (nothing is encapsulated) and knows no media: it may import neither quic-go nor the host runtime. A
// host asks for a circuit with a signed lease on the control port (package relaywire; relayclient is the host's side); a viewer
// just sends QUIC to a media port.
//
// Reading order: handle.go (what happens to a packet), candidate.go (who may be a viewer), circuit.go and table.go (what is remembered), admission.go, verifier.go and
// bind.go (how a circuit begins), fastpath_linux.go and portablepath.go (how bytes move), relay.go (the hub).
package relay
