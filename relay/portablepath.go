package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/wavry/fleet/relay/relaywire"
)

// portablePath is the data path on package net: one goroutine per port, one datagram per system call. It makes the same decisions
// and keeps the same counters as the fast one; it cannot hand its sockets over.
type portablePath struct {
	engine  *engine
	conns   []*net.UDPConn // media ports, then the control port
	ports   []uint16
	workers []*workerStats
}

func openPortable(e *engine, bind netip.Addr, control, firstMedia uint16, media int) (*portablePath, error) {
	p := &portablePath{engine: e}
	for i := range media + 1 {
		port := control
		if i < media {
			port = firstMedia
			if firstMedia != 0 {
				port += uint16(i)
			}
		}
		conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(bind, port)))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("bind %s port %d: %w", bind, port, err), p.close())
		}
		p.conns = append(p.conns, conn)
		p.ports = append(p.ports, conn.LocalAddr().(*net.UDPAddr).AddrPort().Port())
		p.workers = append(p.workers, new(workerStats))
	}
	return p, nil
}

func (p *portablePath) controlPort() uint16   { return p.ports[len(p.ports)-1] }
func (p *portablePath) mediaPorts() []uint16  { return p.ports[:len(p.ports)-1] }
func (p *portablePath) stats() []*workerStats { return p.workers }
func (p *portablePath) describe() string      { return "portable" }

// kernelDrops is always 0: package net does not tell.
func (p *portablePath) kernelDrops() uint64 { return 0 }

func (p *portablePath) sendControl(b []byte, to netip.AddrPort) error {
	return p.sendMedia(len(p.conns)-1, b, to)
}

func (p *portablePath) sendMedia(port int, b []byte, to netip.AddrPort) error {
	_, err := p.conns[port].WriteToUDPAddrPort(b, to)
	return err
}

func (p *portablePath) close() error {
	var errs []error
	for _, c := range p.conns {
		errs = append(errs, c.Close())
	}
	p.conns = nil
	return errors.Join(errs...)
}

func (p *portablePath) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for i, conn := range p.conns {
		if err := conn.SetReadDeadline(time.Time{}); err != nil {
			return fmt.Errorf("clear deadline: %w", err)
		}
		g.Go(func() error { return p.serve(ctx, i, conn) })
		g.Go(func() error {
			<-ctx.Done()
			return conn.SetReadDeadline(time.Unix(1, 0)) // wakes the reader
		})
	}
	return g.Wait()
}

func (p *portablePath) serve(ctx context.Context, i int, conn *net.UDPConn) error {
	port := i
	if i == len(p.conns)-1 {
		port = controlIndex
	}
	var buffer [messageSize]byte
	var answer [2*relaywire.CarryLen + maxDatagram]byte
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buffer[:])
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			continue // the system tells of an earlier send
		}
		p.take(i, port, from, buffer[:n], answer[:])
	}
}

func (p *portablePath) take(i, port int, from netip.AddrPort, b, answer []byte) {
	s, key, now := p.workers[i], makeKey(from, port), p.engine.clock.now()
	s.packetsIn.Add(1)
	s.bytesIn.Add(uint64(len(b)))
	switch {
	case len(b) == 0:
		s.drop(dropEmpty, 1)
	case port == controlIndex || isControl(b):
		reply, to := p.engine.control(key, b, now, answer[:0], s)
		if to != nil {
			from = to.key.remote()
		}
		if len(reply) > 0 {
			p.send(i, reply, from)
		}
	default:
		to, why := p.engine.handle(key, b, len(b), 1, now)
		packets := [2][]byte{b}
		if why == dropOffer {
			to, packets, why = p.engine.offer(key, b, now, answer)
		}
		if to == nil {
			s.drop(why, 1)
			return
		}
		for _, b := range packets {
			if len(b) > 0 {
				p.send(i, b, to.key.remote())
			}
		}
	}
}

func (p *portablePath) send(i int, b []byte, to netip.AddrPort) {
	if _, err := p.conns[i].WriteToUDPAddrPort(b, to); err != nil {
		p.workers[i].drop(dropSendError, 1)
		return
	}
	p.workers[i].packetsOut.Add(1)
	p.workers[i].bytesOut.Add(uint64(len(b)))
}
