// Package relaypath makes one UDP socket into many: one for the viewers that reach the host directly and one per circuit at a relay.
//
// A circuit's socket shows QUIC each address that a viewer may have at the relay as a remote address of its own (a label), so that QUIC
// itself tells them apart: it validates a path before it moves a connection there (RFC 9000 section 9). Only one of them is the
// viewer's leg, and what is sent there is the stream. Which one is decided by Paths, a pure state machine: the relay's
// core and Paths together are the protocol of who may move a leg (package relaywire says what is on the wire,
// relay/DESIGN.md why). It knows no QUIC: transport tells it which connections are proven.
package relaypath
