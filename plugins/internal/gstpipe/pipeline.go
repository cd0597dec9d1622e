package gstpipe

// #include <stdlib.h>
// #include "pictures.h"
import "C"

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/go-gst/go-gst/gst"
	"golang.org/x/sys/unix"
)

// Element describes one element of a chain.
type Element struct {
	Factory string
	Name    string // for Set and Has; may be empty
	Props   []Prop
}

// Prop is one property, its value written as in gst-launch.
type Prop struct {
	Name, Value string
	// Optional properties are left out where this version of the element lacks them.
	Optional bool
}

// P is a property that must exist.
func P(name string, value any) Prop { return Prop{Name: name, Value: fmt.Sprint(value)} }

// Maybe is a property that is set where it exists.
func Maybe(name string, value any) Prop {
	return Prop{Name: name, Value: fmt.Sprint(value), Optional: true}
}

// Caps is a caps filter.
func Caps(caps string) Element { return Element{Factory: "capsfilter", Props: []Prop{P("caps", caps)}} }

// SizedCaps narrows the caps of a PipeWire source to a size; 0 leaves them. A monitor that is made as large as its reader wants it gets its
// refresh rate from there too.
func SizedCaps(caps string, width, height int) string {
	if width == 0 {
		return caps
	}
	alternatives := strings.Split(caps, ";")
	for i, a := range alternatives {
		alternatives[i] = fmt.Sprintf("%s, width=(int)%d, height=(int)%d, max-framerate=(fraction)60/1", strings.TrimSpace(a), width, height)
	}
	return strings.Join(alternatives, "; ")
}

// Pipeline is a chain of elements, each linked to the next. Its methods may be called from any goroutine, but none during or
// after Close.
type Pipeline struct {
	pipeline *gst.Pipeline
	elements []*gst.Element
	names    map[string]*gst.Element
	text     string
	inbox    *C.wavry_inbox
	wake     *os.File    // eventfd: something came out, or will not
	count    [8]byte     // what is read from it
	stopped  atomic.Bool // Stop was called
}

// Build makes and links the elements. Nothing runs before Start. Close must be called in the end, also without Start.
func Build(name string, chain []Element) (*Pipeline, error) {
	Init()
	gp, err := gst.NewPipeline(name)
	if err != nil {
		return nil, fmt.Errorf("make pipeline %s: %w", name, err)
	}
	p := &Pipeline{pipeline: gp, names: map[string]*gst.Element{}}
	if err := p.prepare(chain); err != nil {
		p.Close()
		return nil, fmt.Errorf("build pipeline %s: %w", name, err)
	}
	return p, nil
}

func (p *Pipeline) prepare(chain []Element) error {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("make eventfd: %w", err)
	}
	p.wake = os.NewFile(uintptr(fd), "pipeline")
	C.wavry_watch_bus(p.native(), C.int(fd))
	if err := p.add(chain); err != nil {
		return err
	}
	if sink := p.element(SinkName); sink != nil {
		C.wavry_wake_on_sample(sink, C.int(fd))
	}
	return nil
}

func (p *Pipeline) add(chain []Element) error {
	words := make([]string, 0, len(chain))
	for _, d := range chain {
		word, err := p.addOne(d)
		if err != nil {
			return err
		}
		words = append(words, word)
	}
	p.text = strings.Join(words, " ! ")
	for i := 1; i < len(p.elements); i++ {
		if err := p.elements[i-1].Link(p.elements[i]); err != nil {
			return fmt.Errorf("link %s to %s: %w", chain[i-1].Factory, chain[i].Factory, err)
		}
	}
	return nil
}

func (p *Pipeline) addOne(d Element) (string, error) {
	e, err := gst.NewElementWithName(d.Factory, d.Name)
	if err != nil {
		return "", &ElementMissingError{Factory: d.Factory}
	}
	p.elements = append(p.elements, e)
	if d.Name != "" {
		p.names[d.Name] = e
	}
	if err := p.pipeline.Add(e); err != nil {
		return "", fmt.Errorf("add %s: %w", d.Factory, err)
	}
	words := []string{d.Factory}
	if d.Name != "" {
		words = append(words, "name="+d.Name)
	}
	for _, prop := range d.Props {
		switch ok := setProperty(e, prop.Name, prop.Value); {
		case ok:
			words = append(words, fmt.Sprintf("%s=%q", prop.Name, prop.Value))
		case !prop.Optional:
			return "", fmt.Errorf("element %s has no property %s", d.Factory, prop.Name)
		}
	}
	return strings.Join(words, " "), nil
}

// String describes the pipeline as it was built, in gst-launch's notation.
func (p *Pipeline) String() string { return p.text }

// Has reports whether the named element has the property.
func (p *Pipeline) Has(element, property string) bool {
	e := p.names[element]
	if e == nil {
		return false
	}
	name := C.CString(property)
	defer C.free(unsafe.Pointer(name))
	return C.wavry_has_property((*C.GObject)(e.Unsafe()), name) != 0
}

// Set changes a property of a named element.
func (p *Pipeline) Set(element, property, value string) error {
	e := p.names[element]
	if e == nil {
		return fmt.Errorf("pipeline has no element %s", element)
	}
	if !setProperty(e, property, value) {
		return fmt.Errorf("element %s has no property %s", element, property)
	}
	return nil
}

// Get reads a property of a named element as text; empty when it has none.
func (p *Pipeline) Get(element, property string) string {
	e := p.names[element]
	if e == nil {
		return ""
	}
	name := C.CString(property)
	defer C.free(unsafe.Pointer(name))
	return goText(C.wavry_get((*C.GObject)(e.Unsafe()), name))
}

// CapsOf is what a named element's pad negotiated; empty before.
func (p *Pipeline) CapsOf(element, pad string) string {
	e := p.names[element]
	if e == nil {
		return ""
	}
	name := C.CString(pad)
	defer C.free(unsafe.Pointer(name))
	return goText(C.wavry_caps_of_pad((*C.GstElement)(e.Unsafe()), name))
}

// Start sets the pipeline playing and waits until its live part runs, at most timeout. With monotonic the pipeline's clock is the
// system's, so that buffer times can be read as CLOCK_MONOTONIC.
func (p *Pipeline) Start(timeout time.Duration, monotonic bool) error {
	if monotonic {
		C.wavry_use_monotonic(p.native())
	}
	// The real cause of a failure is on the bus.
	if err := p.pipeline.SetState(gst.StatePlaying); err != nil {
		return p.because(err)
	}
	if p.waits() {
		return p.Err()
	}
	if C.wavry_wait_state(p.native(), C.guint64(timeout.Nanoseconds())) == 0 {
		return p.because(fmt.Errorf("pipeline did not start within %v", timeout))
	}
	return p.Err()
}

// waits reports whether the pipeline begins with an appsrc: its state change completes only with the first picture.
func (p *Pipeline) waits() bool {
	_, ok := p.names[SourceName]
	return ok
}

func (p *Pipeline) because(err error) error {
	if cause := p.Err(); cause != nil {
		return cause
	}
	return err
}

// Err is the first error of any element, nil when there was none.
func (p *Pipeline) Err() error {
	var f C.wavry_fault
	if C.wavry_fault_of(p.native(), &f) == 0 {
		return nil
	}
	defer C.wavry_fault_free(&f)
	return &PipelineError{Element: goString(f.source), Text: goString(f.text), Debug: shorten(goString(f.debug))}
}

// Stop stops the pipeline and waits for its threads. Pulls that wait return at once. Everything but Close may still be called.
func (p *Pipeline) Stop() {
	// Going to NULL fails only when an element's driver does; there is nothing left to do about it then.
	_ = p.pipeline.SetState(gst.StateNull)
	p.stopped.Store(true)
	if p.wake != nil {
		// A full counter wakes as well.
		_, _ = p.wake.Write([]byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}

// Close stops the pipeline and frees it. It is idempotent.
func (p *Pipeline) Close() {
	if p.pipeline == nil {
		return
	}
	p.Stop()
	for _, e := range p.elements {
		drop(e.Object)
	}
	drop(p.pipeline.Object)
	if p.inbox != nil {
		C.wavry_inbox_free(p.inbox)
	}
	if p.wake != nil {
		_ = p.wake.Close() // last: no element can write any more
	}
	p.pipeline, p.elements, p.names = nil, nil, nil
}

func (p *Pipeline) native() *C.GstElement { return (*C.GstElement)(p.pipeline.Unsafe()) }

func (p *Pipeline) element(name string) *C.GstElement {
	e := p.names[name]
	if e == nil {
		return nil
	}
	return (*C.GstElement)(e.Unsafe())
}

// drop gives a binding object's reference back now instead of in a finalizer.
func drop(o *gst.Object) {
	object := o.InitiallyUnowned.Object
	runtime.SetFinalizer(object, nil)
	object.Unref()
}

func setProperty(e *gst.Element, name, value string) bool {
	cname, cvalue := C.CString(name), C.CString(value)
	defer C.free(unsafe.Pointer(cname))
	defer C.free(unsafe.Pointer(cvalue))
	return C.wavry_set((*C.GObject)(e.Unsafe()), cname, cvalue) != 0
}

// goText copies and frees a string that GLib allocated.
func goText(s *C.gchar) string {
	if s == nil {
		return ""
	}
	defer C.g_free(C.gpointer(unsafe.Pointer(s)))
	return C.GoString((*C.char)(s))
}

func goString(s *C.gchar) string {
	if s == nil {
		return ""
	}
	return C.GoString((*C.char)(s))
}

// shorten keeps the message of a debug text, which begins with file and line.
func shorten(debug string) string {
	_, text, found := strings.Cut(debug, "\n")
	if !found {
		text = debug
	}
	return strings.TrimSpace(text)
}

// IsMissing reports whether err says that an element is not registered, and which.
func IsMissing(err error) (factory string, ok bool) {
	var m *ElementMissingError
	if errors.As(err, &m) {
		return m.Factory, true
	}
	return "", false
}
