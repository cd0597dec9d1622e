package main

import (
	"fmt"
	"math"
	"regexp"
	"strings"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/plugins/internal/encode"
	"github.com/wavry/fleet/plugins/internal/gstpipe"
)

const (
	// longestGOP is the most that va encoders take: a keyframe every 17 s at 60 fps, the nearest thing to keyframes on demand only.
	longestGOP = 1024
	// vbvFrames is how many pictures' worth of bits a picture may take at most.
	vbvFrames = 3
	// fastest is the end of the target-usage scale (1 best quality, 7 best speed).
	fastest = 7
)

var codecs = []media.Codec{media.CodecH264, media.CodecHEVC, media.CodecAV1}

// short is a codec's name within the element names.
var short = map[media.Codec]string{media.CodecH264: "h264", media.CodecHEVC: "h265", media.CodecAV1: "av1"}

// device is what the option "device" may hold: a render node that is not the first.
var device = regexp.MustCompile(`^renderD1[2-9][0-9]$`)

// methods in order of preference: the fixed-function low-power encoder has the lower latency where it exists (Intel).
func methods(m machine) []encode.Method {
	return []encode.Method{method(m, "va-lp", "lpenc"), method(m, "va", "enc")}
}

func method(m machine, name, suffix string) encode.Method {
	element := func(device string, c media.Codec) string { return elementName(device, short[c]+suffix) }
	return encode.Method{
		Name: name, Codecs: codecs, Options: map[string]*regexp.Regexp{"device": device},
		Available: func(c media.Codec) *pluginapi.UnavailableError { return m.why(element("", c)) },
		Explain:   explain,
		Chain:     func(in encode.Input) []gstpipe.Element { return chain(in, element(in.Options["device"], in.Codec)) },
		Rate: func(_ encode.Input, bps uint32) []gstpipe.Prop {
			return []gstpipe.Prop{gstpipe.P("bitrate", max(bps/1000, 1))}
		},
		DMABuf:  func(_ media.Codec, l media.Layout) string { return dmabufCaps(l, gstpipe.RuntimeVersion()) },
		Accepts: func(media.Codec) string { return accepts(gstpipe.RuntimeVersion()) },
		Details: func(media.Codec) map[string]string { return m.details() },
	}
}

// elementName is how the va plugin names its elements: the first GPU's have no device in them. device is "renderD129" or empty.
func elementName(device, rest string) string { return "va" + device + rest }

func chain(in encode.Input, encoder string) []gstpipe.Element {
	elements := convert(in)
	elements = append(elements, gstpipe.Element{Factory: encoder, Name: encode.EncoderName, Props: properties(in)})
	return append(elements, gstpipe.Caps(streamCaps[in.Codec]))
}

// convert brings pictures into the encoder's memory and colours. vapostproc imports DMA-BUFs and uploads the rest; a driver without
// video processing has no vapostproc, so the CPU converts and the encoder uploads.
func convert(in encode.Input) []gstpipe.Element {
	if postproc := elementName(in.Options["device"], "postproc"); gstpipe.HasElement(postproc) {
		return []gstpipe.Element{
			{Factory: postproc, Name: "convert", Props: []gstpipe.Prop{gstpipe.Maybe("qos", false)}},
			gstpipe.Caps("video/x-raw(memory:VAMemory), format=(string)NV12, colorimetry=(string)bt709"),
		}
	}
	return []gstpipe.Element{
		{Factory: "videoconvert", Name: "convert", Props: []gstpipe.Prop{
			gstpipe.P("n-threads", 2), gstpipe.P("dither", "none"), gstpipe.P("qos", false),
		}},
		gstpipe.Caps("video/x-raw, format=(string)NV12, colorimetry=(string)bt709"),
	}
}

// properties of va encoders in GStreamer 1.22 to 1.28; the AV1 encoder (since 1.24) lacks those about slices and B-frames, and
// drivers take away what they do not support, so all but the essential ones are optional.
func properties(in encode.Input) []gstpipe.Prop {
	return []gstpipe.Prop{
		gstpipe.Maybe("rate-control", "cbr"), gstpipe.Maybe("target-usage", fastest), gstpipe.P("key-int-max", longestGOP),
		gstpipe.Maybe("b-frames", 0), gstpipe.Maybe("ref-frames", 1), gstpipe.Maybe("num-slices", 1), gstpipe.Maybe("aud", false),
		gstpipe.Maybe("cc-insert", false), gstpipe.Maybe("trellis", false), gstpipe.Maybe("dct8x8", false),
		gstpipe.Maybe("b-pyramid", false), gstpipe.Maybe("hierarchical-level", 1), gstpipe.Maybe("gf-group-size", 1),
		gstpipe.Maybe("cpb-size", cpb(in)), gstpipe.Maybe("qos", false),
	}
}

// cpb is vbvFrames in kilobits.
func cpb(in encode.Input) int {
	return max(1, int(math.Ceil(float64(in.BitsPerSecond)/1000*vbvFrames/in.FPS)))
}

// streamCaps is what comes out. Hardware picks the first profile that it has.
var streamCaps = map[media.Codec]string{
	media.CodecH264: "video/x-h264, stream-format=(string)byte-stream, alignment=(string)au, profile=(string){ constrained-baseline, main, high }",
	media.CodecHEVC: "video/x-h265, stream-format=(string)byte-stream, alignment=(string)au",
	media.CodecAV1:  "video/x-av1, stream-format=(string)obu-stream, alignment=(string)tu",
}

// dmabufCaps: from 1.24 on caps name the DRM format and modifier; before, a DMA-BUF was understood to be linear.
func dmabufCaps(l media.Layout, v gstpipe.Version) string {
	in := encode.Input{Layout: l, FPS: 60}
	if v.AtLeast(1, 24) {
		format := fmt.Sprintf("%v:%#016x", l.Format, l.Modifier)
		if l.Modifier == 0 {
			format = l.Format.String()
		}
		_, rest, _ := strings.Cut(encode.Geometry(in), ", ")
		return fmt.Sprintf("video/x-raw(memory:DMABuf), format=(string)DMA_DRM, drm-format=(string)%s, %s", format, rest)
	}
	if l.Modifier != 0 || gstpipe.FormatName(l.Format) == "" {
		return ""
	}
	return "video/x-raw(memory:DMABuf), " + encode.Geometry(in)
}

// accepts is what a PipeWire source may offer. Before 1.24 caps cannot say a modifier, and a compositor's tiled buffer would be
// misread: memory it is, then.
func accepts(v gstpipe.Version) string {
	if !v.AtLeast(1, 24) {
		return ""
	}
	return "video/x-raw(memory:DMABuf), format=(string)DMA_DRM; video/x-raw, format=(string){ BGRx, BGRA, RGBx, RGBA, NV12 }"
}
