package main

import (
	"fmt"
	"math"
	"regexp"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/plugins/internal/encode"
	"github.com/wavry/fleet/plugins/internal/gstpipe"
)

// vbvFrames is how many pictures' worth of bits a picture may take at most.
const vbvFrames = 3

var codecs = []media.Codec{media.CodecH264, media.CodecHEVC, media.CodecAV1}

// short is a codec's name within the element names.
var short = map[media.Codec]string{media.CodecH264: "h264", media.CodecHEVC: "h265", media.CodecAV1: "av1"}

// gpuNumber is what the option "gpu" may hold.
var gpuNumber = regexp.MustCompile(`^[0-9]{1,2}$`)

func methods(m machine) []encode.Method {
	return []encode.Method{{
		Name: "nvenc", Codecs: codecs, Options: map[string]*regexp.Regexp{"gpu": gpuNumber},
		Available: func(c media.Codec) *pluginapi.UnavailableError { return m.why(c, "") },
		Explain:   explain,
		Chain: func(in encode.Input) []gstpipe.Element {
			return chain(in, m.encoderOrFirst(in.Codec, in.Options["gpu"]), m.hasElement)
		},
		Rate:    rate,
		DMABuf:  func(_ media.Codec, l media.Layout) string { return m.dmabufCaps(l, gstpipe.RuntimeVersion()) },
		Accepts: func(media.Codec) string { return m.accepts(gstpipe.RuntimeVersion()) },
		Details: func(media.Codec) map[string]string { return m.details() },
	}}
}

// candidates are the names of an encoder element, the CUDA one first. Until 1.24 it is nvcudah264enc beside an old nvh264enc, from
// 1.26 on nvh264enc is the CUDA one and the old is gone; further GPUs have their number in the name.
func candidates(c media.Codec, gpu string) []string {
	s := short[c]
	if gpu != "" && gpu != "0" {
		return []string{"nvcuda" + s + "device" + gpu + "enc", "nv" + s + "device" + gpu + "enc"}
	}
	return []string{"nvcuda" + s + "enc", "nv" + s + "enc"}
}

// chain converts on the GPU where the CUDA elements are there, else on the CPU; the encoder uploads what is left to upload.
func chain(in encode.Input, encoder string, has func(string) bool) []gstpipe.Element {
	elements := convert(in, has)
	elements = append(elements, gstpipe.Element{Factory: encoder, Name: encode.EncoderName, Props: properties(in)})
	elements = append(elements, gstpipe.Caps(streamCaps[in.Codec]))
	if parser := parsers[in.Codec]; has(parser.factory) {
		elements = append(elements, parser.element(), gstpipe.Caps(streamCaps[in.Codec]))
	}
	return elements
}

func convert(in encode.Input, has func(string) bool) []gstpipe.Element {
	nv12 := "format=(string)NV12, colorimetry=(string)bt709"
	if !has("cudaupload") || !has("cudaconvert") {
		return []gstpipe.Element{
			{Factory: "videoconvert", Name: "convert", Props: []gstpipe.Prop{
				gstpipe.P("n-threads", 2), gstpipe.P("dither", "none"), gstpipe.P("qos", false),
			}},
			gstpipe.Caps("video/x-raw, " + nv12),
		}
	}
	onCUDA := []gstpipe.Element{
		{Factory: "cudaupload"},
		{Factory: "cudaconvert", Name: "convert", Props: []gstpipe.Prop{gstpipe.Maybe("qos", false)}},
		gstpipe.Caps("video/x-raw(memory:CUDAMemory), " + nv12),
	}
	if !in.DMABuf {
		return onCUDA
	}
	// CUDA cannot import a DMA-BUF itself; OpenGL can, and CUDA maps its textures without a copy through the CPU.
	return append([]gstpipe.Element{
		{Factory: "glupload"}, {Factory: "glcolorconvert"}, gstpipe.Caps("video/x-raw(memory:GLMemory), format=(string)RGBA"),
	}, onCUDA...)
}

// properties by every name that GStreamer 1.22 to 1.28 has for them: 1.26 renamed b-frames, rate-control and zero-reorder-delay, and
// 1.24 brought presets p1 to p7 with tune. A preset that a version does not know leaves the one before.
func properties(in encode.Input) []gstpipe.Prop {
	return []gstpipe.Prop{
		gstpipe.Maybe("preset", "low-latency-hp"), gstpipe.Maybe("preset", preset(gstpipe.RuntimeVersion())),
		gstpipe.Maybe("tune", "ultra-low-latency"), gstpipe.Maybe("multi-pass", "disabled"),
		gstpipe.Maybe("rc-mode", "cbr"), gstpipe.Maybe("rate-control", "cbr"),
		gstpipe.P("gop-size", -1), gstpipe.Maybe("bframes", 0), gstpipe.Maybe("b-frames", 0),
		gstpipe.Maybe("zerolatency", true), gstpipe.Maybe("zero-reorder-delay", true), gstpipe.Maybe("rc-lookahead", 0),
		gstpipe.Maybe("b-adapt", false), gstpipe.Maybe("i-adapt", false), gstpipe.Maybe("strict-gop", false),
		gstpipe.Maybe("nonref-p", false), gstpipe.Maybe("weighted-pred", false), gstpipe.Maybe("temporal-aq", false),
		gstpipe.Maybe("aud", false), gstpipe.Maybe("repeat-sequence-header", true), gstpipe.Maybe("num-slices", 1),
		gstpipe.Maybe("vbv-buffer-size", vbv(in)), gstpipe.Maybe("qos", false),
	}
}

func preset(v gstpipe.Version) string {
	if v.AtLeast(1, 24) {
		return "p3"
	}
	return "low-latency-hq"
}

// vbv is vbvFrames in kilobits.
func vbv(in encode.Input) int {
	return max(1, int(math.Ceil(float64(in.BitsPerSecond)/1000*vbvFrames/in.FPS)))
}

// rate in kbit/s; the larger of the two goes last when it rises and first when it falls, but nvcodec takes both at the next picture.
func rate(_ encode.Input, bps uint32) []gstpipe.Prop {
	kbps := max(bps/1000, 1)
	return []gstpipe.Prop{gstpipe.P("bitrate", kbps), gstpipe.Maybe("max-bitrate", kbps)}
}

var streamCaps = map[media.Codec]string{
	media.CodecH264: "video/x-h264, stream-format=(string)byte-stream, alignment=(string)au",
	media.CodecHEVC: "video/x-h265, stream-format=(string)byte-stream, alignment=(string)au",
	media.CodecAV1:  "video/x-av1, stream-format=(string)obu-stream, alignment=(string)tu",
}

// parser repeats parameter sets before every keyframe; AV1 has them in the stream anyway.
type parser struct {
	factory string
	repeats bool
}

func (p parser) element() gstpipe.Element {
	e := gstpipe.Element{Factory: p.factory}
	if p.repeats {
		e.Props = []gstpipe.Prop{gstpipe.P("config-interval", -1)}
	}
	return e
}

var parsers = map[media.Codec]parser{
	media.CodecH264: {"h264parse", true}, media.CodecHEVC: {"h265parse", true}, media.CodecAV1: {"av1parse", false},
}

// dmabufCaps: OpenGL must be there to import the buffer. Before 1.24 caps cannot say a modifier.
func (m machine) dmabufCaps(l media.Layout, v gstpipe.Version) string {
	if !m.hasGL() {
		return ""
	}
	if v.AtLeast(1, 24) {
		format := l.Format.String()
		if l.Modifier != 0 {
			format = fmt.Sprintf("%v:%#016x", l.Format, l.Modifier)
		}
		return fmt.Sprintf("video/x-raw(memory:DMABuf), format=(string)DMA_DRM, drm-format=(string)%s, width=(int)%d, height=(int)%d, "+
			"framerate=(fraction)60/1, colorimetry=(string)sRGB", format, l.Width, l.Height)
	}
	if l.Modifier != 0 || gstpipe.FormatName(l.Format) == "" {
		return ""
	}
	return "video/x-raw(memory:DMABuf), " + encode.Geometry(encode.Input{Layout: l, FPS: 60})
}

func (m machine) accepts(v gstpipe.Version) string {
	if !m.hasGL() || !v.AtLeast(1, 24) {
		return ""
	}
	return "video/x-raw(memory:DMABuf), format=(string)DMA_DRM; video/x-raw, format=(string){ BGRx, BGRA, RGBx, RGBA, NV12 }"
}

func (m machine) hasGL() bool {
	for _, f := range []string{"glupload", "glcolorconvert", "cudaupload", "cudaconvert"} {
		if !m.hasElement(f) {
			return false
		}
	}
	return true
}
