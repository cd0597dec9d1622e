package wayland

import (
	"errors"
	"fmt"
)

var (
	// ErrCompositorGone is why a connection ended when the compositor closed it or died.
	ErrCompositorGone = errors.New("the compositor closed the connection (it exited, crashed or refused this client)")
	// ErrCompositorHung is why a connection ended when the compositor stopped reading.
	ErrCompositorHung = errors.New("the compositor does not read its requests any more")
	// ErrTooLong is why a connection ended when a request would not fit into one message.
	ErrTooLong = errors.New("request exceeds the largest Wayland message")
	// ErrNoDisplay is returned by Dial when neither name nor environment say which compositor.
	ErrNoDisplay = errors.New("no Wayland display: WAYLAND_DISPLAY and XDG_RUNTIME_DIR are not set")
)

// ProtocolError is the compositor's complaint about one of our requests. The connection is over.
type ProtocolError struct {
	Object    uint32
	Interface string // of the object, "" when it is unknown
	Code      uint32 // from the interface's own error enumeration
	Message   string
}

func (e *ProtocolError) Error() string {
	name := e.Interface
	if name == "" {
		name = "object"
	}
	return fmt.Sprintf("compositor reports error %d on %s@%d: %s", e.Code, name, e.Object, e.Message)
}

// MissingGlobalError says that the compositor does not offer an interface.
type MissingGlobalError struct {
	Interface string
	Version   uint32 // the lowest that is needed
	Offered   uint32 // 0: not at all
}

func (e *MissingGlobalError) Error() string {
	if e.Offered == 0 {
		return fmt.Sprintf("compositor does not offer %s", e.Interface)
	}
	return fmt.Sprintf("compositor offers %s only in version %d, not %d", e.Interface, e.Offered, e.Version)
}

// WireError is a message from the compositor that breaks the rules.
type WireError struct {
	Object  uint32
	Opcode  uint16
	Problem string
}

func (e *WireError) Error() string {
	return fmt.Sprintf("malformed Wayland event %d for object %d: %s", e.Opcode, e.Object, e.Problem)
}
