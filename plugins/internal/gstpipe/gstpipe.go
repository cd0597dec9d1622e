// Package gstpipe is our only door to GStreamer: pipelines built element by element from code, pictures that are descriptors of
// somebody else's memory, and encoded units copied out once.
//
// go-gst builds and links; what it lacks or makes dear per frame (an object with a finalizer per buffer and message) is in bridge.c; the
// two ends that pictures come from are in buffers.c and inbox.c.
// No object here waits for the garbage collector: Close and Release give everything back at once. The bus keeps the first error
// and drops all else, so it needs no reader and cannot grow.
package gstpipe

// #cgo LDFLAGS: -ldl
// #cgo pkg-config: gstreamer-1.0 gstreamer-app-1.0 gstreamer-allocators-1.0 gstreamer-video-1.0
// #include <stdlib.h>
// #include "bridge.h"
import "C"

import (
	"fmt"
	"sync"
	"unsafe"

	"github.com/go-gst/go-gst/gst"
)

var initOnce = sync.OnceFunc(func() { gst.Init(nil) })

// Init readies GStreamer; every entry of this package calls it, and calling it again costs nothing.
func Init() { initOnce() }

// Version is GStreamer's at run time, for example {1, 22, 0}.
type Version struct{ Major, Minor, Micro int }

// String is "1.22.0".
func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Micro) }

// AtLeast compares major and minor.
func (v Version) AtLeast(major, minor int) bool {
	return v.Major > major || (v.Major == major && v.Minor >= minor)
}

// RuntimeVersion asks the loaded library.
func RuntimeVersion() Version {
	var major, minor, micro, nano C.guint
	C.gst_version(&major, &minor, &micro, &nano)
	return Version{int(major), int(minor), int(micro)}
}

// HasElement reports whether a factory of that name is registered. That proves nothing about whether it works.
func HasElement(factory string) bool {
	Init()
	f := gst.Find(factory)
	if f == nil {
		return false
	}
	drop(f.Object)
	return true
}

// HasProperty reports whether elements of the factory have the property. It makes one to look at.
func HasProperty(factory, property string) bool {
	Init()
	e, err := gst.NewElement(factory)
	if err != nil {
		return false
	}
	defer drop(e.Object)
	name := C.CString(property)
	defer C.free(unsafe.Pointer(name))
	return C.wavry_has_property((*C.GObject)(e.Unsafe()), name) != 0
}

// LibraryError says why a shared library cannot be loaded; empty when it can.
func LibraryError(name string) string {
	cname := C.CString(name)
	defer C.free(unsafe.Pointer(cname))
	return goText(C.wavry_library_error(cname))
}

// Plugin is what the registry knows about a plugin.
type Plugin struct {
	Version string
	File    string
	// Features is the number of elements it registered; 0 means that it loaded and found nothing to offer on this machine.
	Features int
}

// FindPlugin looks a plugin up by name; false means that its file is not installed.
func FindPlugin(name string) (Plugin, bool) {
	Init()
	cname := C.CString(name)
	defer C.free(unsafe.Pointer(cname))
	n := C.wavry_plugin_features(cname)
	if n < 0 {
		return Plugin{}, false
	}
	p, err := gst.GetRegistry().FindPlugin(name)
	if err != nil {
		return Plugin{}, false
	}
	defer drop(p.Object)
	return Plugin{Version: p.Version(), File: p.Filename(), Features: int(n)}, true
}
