package pluginhost

import (
	"context"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/wavry/fleet/hostruntime/pluginapi/inbox"
)

// Hand gives the plugin an end of a frame source's connection (SOCK_SEQPACKET), for a Start with inbox.Handed. f stays the caller's.
func (p *Process) Hand(f *os.File) error {
	if err := inbox.Send(p.inbox, inbox.Source, f); err != nil {
		return fmt.Errorf("plugin %s: %w", p.Backend(), err)
	}
	return nil
}

// HandPath gives the plugin a connection to a frame source that listens at a path, as tests and tools do; an encoder may not connect.
func (p *Process) HandPath(path string) error {
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Net: "unixpacket", Name: path})
	if err != nil {
		return fmt.Errorf("connect to the frame source: %w", err)
	}
	defer c.Close()
	f, err := c.File()
	if err != nil {
		return fmt.Errorf("connect to the frame source: %w", err)
	}
	defer f.Close()
	return p.Hand(f)
}

// Connect lets a capture plugin and an encoder plugin speak to each other.
func Connect(capture, encoder interface{ Hand(*os.File) error }) error {
	a, b, err := inbox.Pair(unix.SOCK_SEQPACKET)
	if err != nil {
		return err
	}
	defer a.Close()
	defer b.Close()
	if err := capture.Hand(a); err != nil {
		return err
	}
	return encoder.Hand(b)
}

// handPair makes a connection to the plugin: its end goes into its inbox.
func (p *Process) handPair(kind inbox.Kind, typ int) (*net.UnixConn, error) {
	ours, theirs, err := inbox.Pair(typ)
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	if err := inbox.Send(p.inbox, kind, theirs); err != nil {
		_ = ours.Close()
		return nil, fmt.Errorf("plugin %s: %w", p.Backend(), err)
	}
	return inbox.Conn(ours)
}

// dial is gRPC's way to the plugin. The address that the plugin named in its handshake is not opened: a plugin could name any socket of
// the machine, and we may be root.
func (p *Process) dial(context.Context, string) (net.Conn, error) {
	return p.handPair(inbox.Control, unix.SOCK_STREAM)
}
