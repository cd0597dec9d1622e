package wayland

import (
	"net"
	"os"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair is two connected stream sockets: ours and the compositor's.
func pair(t testing.TB) (ours, theirs *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	conns := [2]*net.UnixConn{}
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		c, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close() // FileConn has its own
		conns[i] = c.(*net.UnixConn)
		t.Cleanup(func() { _ = conns[i].Close() })
	}
	return conns[0], conns[1]
}

// event builds an event's bytes: uint32, int32, string and []byte arguments.
func event(object uint32, opcode uint16, args ...any) []byte {
	b := order.AppendUint32(nil, object)
	b = order.AppendUint32(b, uint32(opcode))
	for _, a := range args {
		switch a := a.(type) {
		case uint32:
			b = order.AppendUint32(b, a)
		case int:
			b = order.AppendUint32(b, uint32(int32(a)))
		case string:
			b = appendPadded(order.AppendUint32(b, uint32(len(a)+1)), append([]byte(a), 0))
		case []byte:
			b = appendPadded(order.AppendUint32(b, uint32(len(a))), a)
		default:
			panic("unknown argument type in a test")
		}
	}
	order.PutUint32(b[4:], uint32(opcode)|uint32(len(b))<<16)
	return b
}

func appendPadded(b, data []byte) []byte {
	b = append(b, data...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}
