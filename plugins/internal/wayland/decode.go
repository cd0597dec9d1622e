package wayland

import (
	"fmt"
	"os"
)

// header is the first eight bytes of a message.
type header struct {
	object uint32
	opcode uint16
	size   int // with the header
}

// parseHeader reads the header of the first message in b. complete says whether all of the message is there.
func parseHeader(b []byte) (h header, complete bool, err error) {
	if len(b) < headerSize {
		return header{}, false, nil
	}
	word := order.Uint32(b[4:])
	h = header{object: order.Uint32(b), opcode: uint16(word), size: int(word >> 16)}
	if h.size < headerSize || h.size%4 != 0 {
		return h, false, &WireError{Object: h.object, Opcode: h.opcode, Problem: fmt.Sprintf("size %d", h.size)}
	}
	return h, len(b) >= h.size, nil
}

// args takes the arguments off an event. After the first problem everything is zero and problem says what it was.
type args struct {
	b       []byte
	fds     *fdQueue
	problem string
}

func (a *args) ok() bool { return a.problem == "" }

func (a *args) bad(problem string) {
	if a.problem == "" {
		a.problem = problem
	}
	a.b = nil
}

func (a *args) unknownEvent(uint16) { a.bad("unknown event") }

func (a *args) uint() uint32 {
	if len(a.b) < 4 {
		a.bad("too short")
		return 0
	}
	v := order.Uint32(a.b)
	a.b = a.b[4:]
	return v
}

func (a *args) int() int32 { return int32(a.uint()) }

func (a *args) fixed() float64 { return float64(a.int()) / 256 }

// array returns bytes that are valid until the handler returns.
func (a *args) array() []byte {
	n := uint64(a.uint())
	padded := (n + 3) &^ 3
	if uint64(len(a.b)) < padded {
		a.bad("array longer than the message")
		return nil
	}
	v := a.b[:n]
	a.b = a.b[padded:]
	return v
}

// string reads "" also for the null string.
func (a *args) string() string {
	v := a.array()
	if len(v) == 0 {
		return ""
	}
	if v[len(v)-1] != 0 {
		a.bad("string without its NUL")
		return ""
	}
	return string(v[:len(v)-1])
}

// fd returns a descriptor that belongs to the handler.
func (a *args) fd() *os.File {
	f := a.fds.pop()
	if f == nil {
		a.bad("descriptor missing")
	}
	return f
}

// adopt gives o the id that the compositor chose.
func (a *args) adopt(o Object, c *Conn, version uint32) {
	id := a.uint()
	if !a.ok() {
		return
	}
	if problem := c.adopt(o, id, version); problem != "" {
		a.bad(problem)
	}
}

// finish is nil when the event was exactly as its interface says.
func (a *args) finish(h header) error {
	if a.problem == "" && len(a.b) > 0 {
		a.problem = fmt.Sprintf("%d bytes too many", len(a.b))
	}
	if a.problem == "" {
		return nil
	}
	return &WireError{Object: h.object, Opcode: h.opcode, Problem: a.problem}
}

// closeUnwanted closes a descriptor that no handler took; nil is fine.
func closeUnwanted(f *os.File) {
	if f != nil {
		_ = f.Close() // never read
	}
}

// fdQueue holds descriptors that were received before the events they belong to.
type fdQueue struct{ files []*os.File }

func (q *fdQueue) push(f *os.File) { q.files = append(q.files, f) }

func (q *fdQueue) pop() *os.File {
	if len(q.files) == 0 {
		return nil
	}
	f := q.files[0]
	q.files = q.files[1:]
	return f
}

func (q *fdQueue) closeAll() {
	for _, f := range q.files {
		closeUnwanted(f)
	}
	q.files = nil
}
