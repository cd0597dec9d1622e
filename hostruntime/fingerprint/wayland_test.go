package fingerprint

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"
)

// event is one Wayland event as a compositor sends it.
func event(object, opcode uint32, body []byte) []byte {
	b := binary.NativeEndian.AppendUint32(nil, object)
	b = binary.NativeEndian.AppendUint32(b, uint32(waylandHeader+len(body))<<16|opcode)
	return append(b, body...)
}

func global(name string, version uint32) []byte {
	b := binary.NativeEndian.AppendUint32(nil, 7)
	b = binary.NativeEndian.AppendUint32(b, uint32(len(name)+1))
	b = append(b, name...)
	b = append(b, make([]byte, 4-len(name)%4)...)
	return event(registryID, eventGlobal, binary.NativeEndian.AppendUint32(b, version))
}

func announcement() []byte {
	b := append(global("wl_shm", 1), event(displayID, 1, []byte{3, 0, 0, 0})...) // delete_id is of no interest
	b = append(b, global("zwlr_screencopy_manager_v1", 3)...)
	return append(b, event(callbackID, 0, []byte{0, 0, 0, 0})...)
}

// TestListGlobals proves the exchange with a compositor and the judgement of what it offers.
func TestListGlobals(t *testing.T) {
	n := bench(t, map[string]string{"WAYLAND_DISPLAY": "wayland-1", "XDG_RUNTIME_DIR": "/run"}, nil)
	asked := make(chan []byte, 1)
	n.dial = func(_, address string) (net.Conn, error) {
		if !strings.HasSuffix(address, "/run/wayland-1") {
			return nil, errors.New("wrong address " + address)
		}
		ours, theirs := net.Pipe()
		go func() { // ends with the connection
			request := make([]byte, 24)
			_, _ = io.ReadFull(theirs, request)
			asked <- request
			_, _ = theirs.Write(announcement())
			_, _ = io.Copy(io.Discard, theirs)
			_ = theirs.Close()
		}()
		return ours, nil
	}
	expect(t, n.compositor(t.Context(), &Result{}), OK, "wlroots with 2 globals; for capture and input: zwlr_screencopy_manager_v1 v3")
	want := appendRequest(appendRequest(nil, 1, 1, 2), 1, 0, 3)
	if got := <-asked; !bytes.Equal(got, want) {
		t.Fatalf("asked %x, want %x", got, want)
	}
}

// TestReadGlobals proves the parser, at every truncation and with what no compositor should send.
func TestReadGlobals(t *testing.T) {
	whole := announcement()
	got, err := readGlobals(bytes.NewReader(whole))
	if want := map[string]uint32{"wl_shm": 1, "zwlr_screencopy_manager_v1": 3}; err != nil || !reflect.DeepEqual(got, want) {
		t.Fatal(got, err)
	}
	for n := range whole {
		if _, err := readGlobals(bytes.NewReader(whole[:n])); err == nil {
			t.Fatalf("cut at %d: accepted", n)
		}
	}
	endless := bytes.NewBuffer(nil)
	for i := range maxGlobals + 1 {
		endless.Write(global(strings.Repeat("x", 1+i%200)+string(rune('a'+i/200)), 1))
	}
	for name, bad := range map[string][]byte{
		"protocol error":   event(displayID, eventDisplayError, nil),
		"tiny event":       {1, 0, 0, 0, 0, 0, 4, 0},
		"odd event":        {1, 0, 0, 0, 0, 0, 13, 0},
		"long name":        event(registryID, eventGlobal, binary.NativeEndian.AppendUint32([]byte{1, 0, 0, 0}, 1<<31)),
		"name of nothing":  event(registryID, eventGlobal, make([]byte, 12)),
		"too many globals": endless.Bytes(),
	} {
		if _, err := readGlobals(bytes.NewReader(bad)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// FuzzReadGlobals proves that no compositor can make the doctor panic.
func FuzzReadGlobals(f *testing.F) {
	f.Add(announcement())
	f.Fuzz(func(t *testing.T, b []byte) {
		if globals, err := readGlobals(bytes.NewReader(b)); err == nil && len(globals) > maxGlobals {
			t.Fatal(len(globals))
		}
	})
}
