package transport

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/quic-go/quic-go"

	"github.com/wavry/fleet/hostruntime/relaypath"
	"github.com/wavry/fleet/relay/relaywire"
)

// CircuitConfig is what a circuit at a relay is to the transport.
type CircuitConfig struct {
	// Lease is the lease it was bound with: its viewer proves itself with that and no other.
	Lease string
	Media netip.AddrPort
	// Number and IDs make connection ids that lead the relay to this circuit.
	Number uint64
	IDs    relaywire.IDKey
	// Viewer says whether the relay has a viewer's leg already.
	Viewer bool
	Relay  relaypath.Relay
}

// Circuit serves the viewer that comes over one circuit. It has a QUIC transport of its own on the host's socket, because
// connection ids are made before anybody knows for which connection.
type Circuit struct {
	path  *relaypath.Circuit
	lease string
	tr    *quic.Transport
	done  chan struct{}
}

// Circuit opens a circuit. Valid after Open, until Serve returns.
func (s *Server) Circuit(cfg CircuitConfig) (*Circuit, error) {
	c := &Circuit{path: relaypath.NewCircuit(s.socket, cfg.Media, cfg.Relay), lease: cfg.Lease, done: make(chan struct{})}
	c.path.Bound(cfg.Viewer)
	c.tr = s.newTransport(c.path, circuitIDs{relaywire.NewIDs(cfg.IDs), cfg.Number})
	listener, err := c.tr.ListenEarly(s.tlsConfig(), quicConfig())
	if err != nil {
		_ = c.path.Close()
		return nil, fmt.Errorf("listen for the viewer at relay %s: %w", cfg.Media, err)
	}
	go func() { // ends with Close
		defer close(c.done)
		if err := s.accept(context.Background(), listener, c); err != nil {
			s.cfg.Logger.Warn("circuit takes no more connections", "remote", cfg.Media, "err", err)
		}
	}()
	return c, nil
}

// Offered takes a datagram of an address that may be the viewer's. It does not keep it.
func (c *Circuit) Offered(candidate uint32, datagram []byte) { c.path.Offered(candidate, datagram) }

// Bound says that the circuit was bound anew, at the same address.
func (c *Circuit) Bound(viewer bool) { c.path.Bound(viewer) }

// Close ends the circuit and its connections.
func (c *Circuit) Close() {
	_ = c.tr.Close()
	_ = c.path.Close()
	<-c.done
}

// circuitIDs makes the connection ids of a circuit.
type circuitIDs struct {
	ids     relaywire.IDs
	circuit uint64
}

func (circuitIDs) ConnectionIDLen() int { return relaywire.IDLen }

func (c circuitIDs) GenerateConnectionID() (quic.ConnectionID, error) {
	var nonce [8]byte
	rand.Read(nonce[:]) // never fails (crypto/rand)
	var id [relaywire.IDLen]byte
	return quic.ConnectionIDFromBytes(c.ids.Append(id[:0], c.circuit, binary.BigEndian.Uint64(nonce[:]))), nil
}

// overRelay is a connection's way over a relay.
type overRelay struct {
	circuit *Circuit
	began   net.Addr // where it shook hands
}

// Prove implements Conn.
func (c *conn) Prove(lease string) {
	if r := c.relay; r != nil && r.circuit.lease == lease {
		r.circuit.path.Prove(c.quic, r.began)
	}
}
