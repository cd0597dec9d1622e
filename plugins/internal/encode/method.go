package encode

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"sort"
	"strings"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/plugins/internal/gstpipe"
)

// EncoderName is the name that a Method gives the encoder element of its chain.
const EncoderName = "enc"

// Method is one way to encode that a plugin offers.
type Method struct {
	Name   string // as in StartEncodeRequest.methods
	Codecs []media.Codec
	// Available says why the method cannot work here, nil when it may. It is cheap and encodes nothing.
	Available func(media.Codec) *pluginapi.UnavailableError
	// Explain turns a failure of the pipeline into a reason and a remedy; nil keeps the error as it is.
	Explain func(media.Codec, error) error
	// Chain is the elements between source and sink. Its encoder is named EncoderName and its output is the codec's byte stream.
	Chain func(Input) []gstpipe.Element
	// Rate is the encoder's properties for a bit rate, changeable while it runs.
	Rate func(Input, uint32) []gstpipe.Prop
	// DMABuf is the caps under which the chain takes DMA-BUF pictures of this layout without a copy, empty when it must be read by
	// the CPU. nil: never.
	DMABuf func(media.Codec, media.Layout) string
	// Accepts is caps for a PipeWire source, best first; empty: any format in memory that the CPU reads.
	Accepts func(media.Codec) string
	// Details adds versions to reports. May be nil.
	Details func(media.Codec) map[string]string
	// Options are what StartEncodeRequest.options may hold for this method, with the form of their values.
	Options map[string]*regexp.Regexp
}

// Input is what a chain is built for.
type Input struct {
	Codec  media.Codec
	Layout media.Layout
	// DMABuf is set when pictures come as DMA-BUF and DMABuf gave caps.
	DMABuf bool
	// FPS is the nominal rate that the encoder's rate control assumes; the run scales bit rates when it really is lower.
	FPS float64
	// BitsPerSecond at FPS.
	BitsPerSecond uint32
	Options       map[string]string
}

// systemCaps are the raw formats we take from memory that the CPU reads.
const systemCaps = "video/x-raw, format=(string){ BGRx, BGRA, RGBx, RGBA, NV12 }"

// SourceCaps describes pictures of the input in memory that the CPU reads.
func SourceCaps(in Input) string {
	return fmt.Sprintf("video/x-raw, %s", Geometry(in))
}

// Geometry is the fields of caps that every kind of memory has in common.
func Geometry(in Input) string {
	return fmt.Sprintf("format=(string)%s, width=(int)%d, height=(int)%d, framerate=(fraction)%s, interlace-mode=(string)progressive, "+
		"pixel-aspect-ratio=(fraction)1/1, colorimetry=(string)%s",
		gstpipe.FormatName(in.Layout.Format), in.Layout.Width, in.Layout.Height, fraction(in.FPS), colorimetry(in.Layout.Format))
}

func colorimetry(f media.FourCC) string {
	if f == media.FormatNV12 {
		return "bt709"
	}
	return "sRGB"
}

// fraction writes a rate so that 59.94 stays what it is.
func fraction(fps float64) string { return fmt.Sprintf("%d/1000", int(fps*1000+0.5)) }

func (m *Method) has(codec media.Codec) bool { return slices.Contains(m.Codecs, codec) }

// dmabufCaps is the caps for DMA-BUF pictures, empty when they must be read by the CPU.
func (m *Method) dmabufCaps(codec media.Codec, l media.Layout) string {
	if m.DMABuf == nil {
		return ""
	}
	return m.DMABuf(codec, l)
}

func (m *Method) rawCaps(codec media.Codec) string {
	if m.Accepts == nil {
		return systemCaps
	}
	if caps := m.Accepts(codec); caps != "" {
		return caps
	}
	return systemCaps
}

// chain is the whole pipeline for in.
func (m *Method) chain(in Input) []gstpipe.Element {
	caps := SourceCaps(in)
	if in.DMABuf {
		caps = m.dmabufCaps(in.Codec, in.Layout)
	}
	elements := append([]gstpipe.Element{gstpipe.Source(caps)}, m.Chain(in)...)
	elements = append(elements, gstpipe.Sink())
	for i := range elements {
		if elements[i].Name == EncoderName {
			elements[i].Props = append(elements[i].Props, m.Rate(in, in.BitsPerSecond)...)
		}
	}
	return elements
}

// explain gives a failure its remedy where the method knows one.
func (m *Method) explain(codec media.Codec, err error) error {
	if factory, missing := gstpipe.IsMissing(err); missing {
		return Missing(factory)
	}
	if m.Explain == nil {
		return err
	}
	return m.Explain(codec, err)
}

// checkOptions refuses options that the method does not know and values of another form.
func (m *Method) checkOptions(options map[string]string) error {
	known := slices.Sorted(maps.Keys(m.Options))
	for key, value := range options {
		form := m.Options[key]
		if form == nil {
			return fmt.Errorf("option %q is none of method %s (%s)", key, m.Name, strings.Join(known, ", "))
		}
		if len(value) > maxOption || !form.MatchString(value) {
			return fmt.Errorf("option %s=%.64q does not match %v", key, value, form)
		}
	}
	return nil
}

// order sorts methods by preference; empty keeps the plugin's own order. Names that it does not have are an error.
func order(methods []Method, preferred []string) ([]*Method, error) {
	var out []*Method
	if len(preferred) == 0 {
		for i := range methods {
			out = append(out, &methods[i])
		}
		return out, nil
	}
	for _, name := range preferred {
		m := find(methods, name)
		if m == nil {
			return nil, fmt.Errorf("method %q is none of %s", name, names(methods))
		}
		out = append(out, m)
	}
	return out, nil
}

func find(methods []Method, name string) *Method {
	for i := range methods {
		if methods[i].Name == name {
			return &methods[i]
		}
	}
	return nil
}

func names(methods []Method) string {
	var list []string
	for i := range methods {
		list = append(list, methods[i].Name)
	}
	sort.Strings(list)
	return strings.Join(list, ", ")
}

// packages maps factories to the Debian package that brings them; other distributions name them alike.
var packages = map[string]string{
	"appsrc": "gstreamer1.0-plugins-base", "appsink": "gstreamer1.0-plugins-base", "videoconvert": "gstreamer1.0-plugins-base",
	"x264enc": "gstreamer1.0-plugins-ugly", "openh264enc": "gstreamer1.0-plugins-bad", "h264parse": "gstreamer1.0-plugins-bad",
	"h265parse": "gstreamer1.0-plugins-bad", "av1parse": "gstreamer1.0-plugins-bad", "pipewiresrc": "gstreamer1.0-pipewire",
	"capsfilter": "libgstreamer1.0-0",
}

// Missing is the precise reason and remedy for an element that is not registered.
func Missing(factory string) *pluginapi.UnavailableError {
	remedy := "install the GStreamer plugin that provides it"
	if p := packages[factory]; p != "" {
		remedy = "install " + p
	}
	return &pluginapi.UnavailableError{Reason: "element " + factory + " missing: GStreamer has no such factory", Remedy: remedy}
}

// Require is the reason why one of the elements is missing, nil when all are there.
func Require(factories ...string) *pluginapi.UnavailableError {
	for _, f := range factories {
		if !gstpipe.HasElement(f) {
			return Missing(f)
		}
	}
	return nil
}
