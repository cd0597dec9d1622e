package streamwire

import (
	"bytes"

	"github.com/wavry/fleet/hostruntime/media"
)

// sample is one value with the name it has in testdata/vectors.json.
type sample struct {
	name  string
	value any
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + 1)
	}
	return b
}

// messageSamples has every message, at its edges: zero, largest, negative, empty and full lists, text beyond ASCII.
func messageSamples() []sample {
	return []sample{
		{"hello", &Hello{Version: 2, Width: 2560, Height: 1440, Scale: 240, MaxKbps: 20000, MaxFPS: 60, Codecs: []media.Codec{media.CodecH264, media.CodecAV1}}},
		{"hello empty", &Hello{Version: 2}},
		{"keyframe", &Keyframe{Track: 1, LastDecoded: 0xfffffffe}},
		{"resize", &Resize{Width: 1918, Height: 1078, Scale: 150}},
		{"limits", &Limits{MaxKbps: 4_000_000_000, MaxFPS: 144}},
		{"proof", &Proof{Key: pattern(65), Signature: pattern(64)}},
		{"challenge", &Challenge{Nonce: pattern(32)}},
		{"bye", &Bye{Code: CodeOperator, Text: "Wartung: täglich um 5 Uhr ☕"}},
		{"bye bare", &Bye{Code: CodeEnded}},
		{"welcome", &Welcome{Version: 2, Role: RoleControl, Input: true, Resize: true, Codec: media.CodecH264, Width: 1920, Height: 1080, FPS: 60, Session: "ses-4f2a"}},
		{"welcome watching", &Welcome{Version: 65535, Role: RoleWatch, Resize: true, Codec: media.CodecHEVC, Width: 1, Height: 65535, FPS: 255}},
		{"state", &StateChange{State: StateRecovering, Text: "the encoder is being restarted"}},
		{"resized", &Resized{Width: 1280, Height: 720}},
		{"cursor", &Cursor{Visible: true, X: 65535, Y: 1, HotspotX: 3, HotspotY: 2, Width: 4, Height: 2, RGBA: pattern(4 * 2 * 4)}},
		{"cursor moved", &Cursor{Visible: true, X: 32768, Y: 16384, HotspotX: 3, HotspotY: 2}},
		{"cursor hidden", &Cursor{}},
		{"stats", &Stats{RTT: 12_345, TargetKbps: 8000, FPS: 60, Window: 1 << 20, Skipped: 7, Path: PathRelay, Encoder: "vaapi h264", Capture: "wayland portal"}},
		{"move", &Move{URL: "https://192.0.2.7:4443/session/v4.public.abc", Hashes: [][]byte{pattern(32), bytes.Repeat([]byte{0xff}, 32)}}},
		{"move bare", &Move{URL: "https://[2001:db8::1]:4443/session/x"}},
		{"people", &People{Others: []Person{{Role: RoleControl, Name: "Ada"}, {Name: "Zoë ☕"}, {}}}},
		{"people none", &People{}},
		{"key down", &Key{ID: 1, Code: 30, Down: true}},
		{"key up", &Key{ID: 0xffffffff, Code: 0x2ff}},
		{"button placed", &Button{ID: 2, Code: 0x110, Down: true, Placed: true, X: 32768, Y: 65535}},
		{"button", &Button{ID: 3, Code: 0x114}},
		{"scroll", &Scroll{ID: 4, X: -7, Y: 120}},
		{"scroll far", &Scroll{ID: 5, X: -1 << 31, Y: 1<<31 - 1}},
		{"touch", &Touch{ID: 6, Finger: 9, Phase: TouchCancel, X: 1, Y: 2}},
		{"release all", &ReleaseAll{ID: 7}},
		{"text", &Text{ID: 8, Text: "é€ñü😀\n"}},
		{"locks", &Locks{ID: 9, Known: LockCaps | LockNum | LockScroll, On: LockNum}},
		{"untyped", &Untyped{Text: "😀", Reason: "the keyboard layout has no key for it"}},
	}
}

func headerSamples() []sample {
	return []sample{
		{"video key", VideoHeader{
			Codec: media.CodecH264, Keyframe: true, Sequence: 1, Width: 1920, Height: 1080, CaptureTime: 1_234_567_890_123,
			Handoff: 250, Encode: 4200, Send: 90, LastInput: 17,
		}},
		{"video repeat", VideoHeader{Track: 3, Codec: media.CodecAV1, Repeat: true, Sequence: 0xffffffff, Width: 65535, Height: 2, CaptureTime: 1<<53 - 1, Handoff: 0xffffffff}},
	}
}

func datagramSamples() []sample {
	return []sample{
		{"motion absolute", MotionAbsolute{ID: 9, X: 65535, Y: 0}},
		{"motion relative", MotionRelative{ID: 10, DX: -1, DY: 1 << 30}},
		{"ping", Ping{ID: 65535, ViewerTime: 1<<53 - 1}},
		{"pong", Pong{ID: 1, ViewerTime: 2, HostTime: 1 << 52}},
		{"feedback", Feedback{
			Now: 5_000_000, Highest: 900, Lost: 2, Undecoded: 3,
			Units:  []UnitReport{{Sequence: 899, Received: 4_990_000, Decode: 3100, Present: 9000}, {Sequence: 900, Received: 4_999_000, Decode: NotYet, Present: NotYet}},
			Inputs: []InputReport{{ID: 17, Latency: 31_000}},
		}},
		{"feedback empty", Feedback{Now: 1}},
		{"feedback full", fullFeedback()},
	}
}

func fullFeedback() Feedback {
	f := Feedback{Now: 1 << 50, Highest: 0xffffffff, Lost: 0xffffffff, Undecoded: 255}
	for i := range uint32(MaxReports) {
		f.Units = append(f.Units, UnitReport{Sequence: 0xfffffff0 + i, Received: 1<<50 + uint64(i), Decode: i, Present: NotYet})
	}
	for i := range uint32(MaxInputReports) {
		f.Inputs = append(f.Inputs, InputReport{ID: i, Latency: 1000 * i})
	}
	return f
}

// appendSample is the bytes of any sample.
func appendSample(b []byte, v any) []byte {
	switch v := v.(type) {
	case Message:
		return AppendMessage(b, v)
	case VideoHeader:
		return AppendVideoHeader(b, v)
	case MotionAbsolute:
		return AppendMotionAbsolute(b, v)
	case MotionRelative:
		return AppendMotionRelative(b, v)
	case Ping:
		return AppendPing(b, v)
	case Pong:
		return AppendPong(b, v)
	case Feedback:
		return AppendFeedback(b, v)
	}
	panic("no such sample")
}

// picked is the field of d that its type says.
func picked(d Datagram) any {
	switch d.Type {
	case DatagramMotionAbsolute:
		return d.Absolute
	case DatagramMotionRelative:
		return d.Relative
	case DatagramFeedback:
		return d.Feedback
	case DatagramPing:
		return d.Ping
	case DatagramPong:
		return d.Pong
	}
	return nil
}
