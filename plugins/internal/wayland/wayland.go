// Package wayland is a small Wayland client in pure Go: the wire protocol with file descriptors, the object table and typed
// bindings for the protocols of protocols.txt. It is not a toolkit: it has no surfaces and draws nothing. Capture plugins use it to
// copy outputs and to play input devices.
//
// # Use
//
// Dial connects and learns the globals; Bind makes an object of one. Requests are methods of objects: they are queued and return
// nothing; Flush sends them (a request with a descriptor is sent at once). What goes wrong ends the whole connection: Done is
// closed, Err says why, and Flush and Roundtrip return the same.
//
// Events call the handlers in an object's On, one at a time, on the connection's own goroutine. Handlers must not block and must not
// call Roundtrip. Requests may be sent from any goroutine. A request that ends an object's life must come from a handler, or when no
// event of that object can be under way; after it the Go value may be used for a new object.
package wayland

//go:generate go run ./gen

// Interface is a protocol interface as we know it.
type Interface struct {
	Name    string
	Version uint32
	fds     []int // descriptors that come with each event
}

// Object is any protocol object of this package: a pointer to one of its structs.
type Object interface {
	describe() *Interface
	base() *object
	dispatch(opcode uint16, a *args)
}

// object is the part that all objects share.
type object struct {
	conn    *Conn
	id      uint32
	version uint32
}

func (o *object) base() *object { return o }

// ID is the object's number on the wire, 0 when it was never made.
func (o *object) ID() uint32 { return o.id }

// Version is the version the object was bound at.
func (o *object) Version() uint32 { return o.version }

func (o *object) begin(opcode uint16) *message { return o.conn.begin(o.id, opcode) }

func (o *object) retire() { o.conn.retire(o.id) }

// Global is something the compositor offers.
type Global struct {
	Name      uint32
	Interface string
	Version   uint32
}
