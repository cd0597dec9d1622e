package main

import (
	"fmt"
	"math"
	"regexp"
	"runtime"
	"strconv"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/plugins/internal/encode"
	"github.com/wavry/fleet/plugins/internal/gstpipe"
)

const (
	// infinite is X264_KEYINT_MAX_INFINITE: keyframes come only on demand.
	infinite = 1 << 30
	// maxThreads bounds slices per picture: each costs bits, and four are enough for 4K.
	maxThreads = 4
	// vbvFrames is how many pictures' worth of bits a picture may take at most: small, so that no picture waits in the network.
	vbvFrames = 3
)

type options = map[string]*regexp.Regexp

var (
	number = regexp.MustCompile(`^[1-9][0-9]?$`)
	preset = regexp.MustCompile(`^(ultrafast|superfast|veryfast|faster|fast)$`)
)

// methods in order of preference: x264 is the faster of the two and has the better rate control.
func methods() []encode.Method {
	h264 := []media.Codec{media.CodecH264}
	return []encode.Method{
		{
			Name: "x264", Codecs: h264, Options: options{"threads": number, "preset": preset},
			Available: require("videoconvert", "x264enc"), Chain: x264Chain, Rate: x264Rate, Details: plugin("x264"),
		},
		{
			Name: "openh264", Codecs: h264, Options: options{"threads": number},
			Available: require("videoconvert", "openh264enc"), Chain: openh264Chain, Rate: openh264Rate, Details: plugin("openh264"),
		},
	}
}

func require(factories ...string) func(media.Codec) *pluginapi.UnavailableError {
	return func(media.Codec) *pluginapi.UnavailableError { return encode.Require(factories...) }
}

func plugin(name string) func(media.Codec) map[string]string {
	return func(media.Codec) map[string]string {
		p, ok := gstpipe.FindPlugin(name)
		if !ok {
			return nil
		}
		return map[string]string{"plugin": name + " " + p.Version, "threads": strconv.Itoa(threads(nil))}
	}
}

// byteStream is the caps of what both encoders write: constrained baseline, which every WebCodecs decoder takes.
const byteStream = "video/x-h264, stream-format=(string)byte-stream, alignment=(string)au, profile=(string)constrained-baseline"

// convert is the one pass over a raw picture that the CPU must make. Dithering and chroma filtering cost time and show nothing on
// a desktop; more threads than two gain less than they cost to wake.
func convert(in encode.Input) []gstpipe.Element {
	return []gstpipe.Element{
		{Factory: "videoconvert", Name: "convert", Props: []gstpipe.Prop{
			gstpipe.P("n-threads", min(threads(in.Options), 2)), gstpipe.P("dither", "none"), gstpipe.P("qos", false),
		}},
		gstpipe.Caps("video/x-raw, format=(string)I420, colorimetry=(string)bt709"),
	}
}

func threads(options map[string]string) int {
	n, err := strconv.Atoi(options["threads"])
	if err != nil || n < 1 {
		n = runtime.NumCPU()
	}
	return min(n, maxThreads)
}

func x264Chain(in encode.Input) []gstpipe.Element {
	preset := in.Options["preset"]
	if preset == "" {
		preset = "ultrafast"
	}
	return append(convert(in),
		gstpipe.Element{Factory: "x264enc", Name: encode.EncoderName, Props: []gstpipe.Prop{
			gstpipe.P("speed-preset", preset), gstpipe.P("tune", "zerolatency"), gstpipe.P("pass", "cbr"),
			gstpipe.P("key-int-max", infinite), gstpipe.P("bframes", 0), gstpipe.P("ref", 1), gstpipe.P("rc-lookahead", 0),
			gstpipe.P("sliced-threads", true), gstpipe.P("threads", threads(in.Options)), gstpipe.P("byte-stream", true),
			gstpipe.P("aud", false), gstpipe.P("insert-vui", true), gstpipe.P("cabac", false), gstpipe.P("dct8x8", false),
			gstpipe.P("vbv-buf-capacity", vbv(in.FPS)), gstpipe.P("qos", false), gstpipe.P("option-string", "scenecut=0"),
		}},
		gstpipe.Caps(byteStream),
	)
}

// vbv is vbvFrames in milliseconds.
func vbv(fps float64) int { return int(math.Ceil(vbvFrames * 1000 / fps)) }

func x264Rate(_ encode.Input, bps uint32) []gstpipe.Prop {
	return []gstpipe.Prop{gstpipe.P("bitrate", max(bps/1000, 1))}
}

func openh264Chain(in encode.Input) []gstpipe.Element {
	n := threads(in.Options)
	return append(convert(in),
		gstpipe.Element{Factory: "openh264enc", Name: encode.EncoderName, Props: []gstpipe.Prop{
			gstpipe.P("usage-type", "camera"), gstpipe.P("complexity", "low"), gstpipe.P("rate-control", "bitrate"),
			gstpipe.P("gop-size", 0), gstpipe.P("enable-frame-skip", false), gstpipe.P("scene-change-detection", false),
			gstpipe.P("background-detection", false), gstpipe.P("adaptive-quantization", false), gstpipe.P("multi-thread", n),
			gstpipe.P("slice-mode", "n-slices"), gstpipe.P("num-slices", n), gstpipe.P("qos", false),
		}},
		gstpipe.Caps(byteStream),
	)
}

func openh264Rate(_ encode.Input, bps uint32) []gstpipe.Prop {
	return []gstpipe.Prop{gstpipe.P("bitrate", fmt.Sprint(bps)), gstpipe.P("max-bitrate", fmt.Sprint(bps))}
}
