package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/plugins/internal/gstpipe"
)

// machine answers what the node has. Its zero value is this node; tests set root to a folder and replace the registry.
type machine struct {
	root     string
	plugin   func() (gstpipe.Plugin, bool)
	has      func(factory string) bool
	writable func(path string) error
}

// vaDrivers are VA-API driver files by kernel driver, and the package that brings them.
var vaDrivers = map[string]struct {
	files []string
	pkg   string
}{
	"i915":   {[]string{"iHD_drv_video.so", "i965_drv_video.so"}, "intel-media-va-driver (i965-va-driver before Broadwell)"},
	"xe":     {[]string{"iHD_drv_video.so"}, "intel-media-va-driver"},
	"amdgpu": {[]string{"radeonsi_drv_video.so"}, "mesa-va-drivers"},
	"radeon": {[]string{"r600_drv_video.so", "radeonsi_drv_video.so"}, "mesa-va-drivers"},
}

// why says why the element cannot encode here, from the hardware up; nil when it is registered.
func (m machine) why(element string) *pluginapi.UnavailableError {
	nodes := m.nodes()
	if len(nodes) == 0 {
		return &pluginapi.UnavailableError{
			Reason: "no DRM render node under /dev/dri",
			Remedy: "load the GPU's kernel driver (i915, xe, amdgpu) and give the allocation /dev/dri, or use encode-software",
		}
	}
	if u := m.access(nodes); u != nil {
		return u
	}
	plugin, ok := m.findPlugin()
	switch {
	case !ok:
		return missing(element, "GStreamer's va plugin is not installed", "install gstreamer1.0-plugins-bad >= 1.22")
	case plugin.Features == 0:
		return m.noFeatures(element, nodes)
	case !m.hasElement(element):
		return missing(element, fmt.Sprintf("driver present, no encode entrypoint: GStreamer's va plugin registered %d features and not this one", plugin.Features),
			"run vainfo to see the driver's entrypoints; on Intel install intel-media-va-driver-non-free, or use another codec or encoder plugin")
	}
	return nil
}

func missing(element, because, remedy string) *pluginapi.UnavailableError {
	return &pluginapi.UnavailableError{Reason: fmt.Sprintf("element %s missing: %s", element, because), Remedy: remedy}
}

// nodes are the render nodes, sorted.
func (m machine) nodes() []string {
	list, err := filepath.Glob(filepath.Join(m.root, "/dev/dri/renderD*"))
	if err != nil {
		return nil // only for a bad pattern
	}
	sort.Strings(list)
	return list
}

// access needs one node that can be opened for writing.
func (m machine) access(nodes []string) *pluginapi.UnavailableError {
	var last error
	for _, n := range nodes {
		if last = m.open(n); last == nil {
			return nil
		}
	}
	remedy := "check the device with ls -l and the kernel log"
	if errors.Is(last, fs.ErrPermission) {
		remedy = "add the user that runs the host runtime to the group that owns it (usually render)"
	}
	return &pluginapi.UnavailableError{Reason: fmt.Sprintf("DRM render node cannot be used: %v", last), Remedy: remedy}
}

func (m machine) open(path string) error {
	if m.writable != nil {
		return m.writable(path)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// noFeatures finds out why the va plugin offers nothing although there is a render node.
func (m machine) noFeatures(element string, nodes []string) *pluginapi.UnavailableError {
	driver := m.kernelDriver(nodes[0])
	known, ok := vaDrivers[driver]
	if !ok {
		return missing(element, fmt.Sprintf("GStreamer's va plugin registered 0 features because the kernel driver %q has no VA-API encoder", driver),
			"use encode-nvenc on NVIDIA, encode-software elsewhere")
	}
	for _, f := range known.files {
		if m.vaDriver(f) {
			return missing(element, fmt.Sprintf("GStreamer's va plugin registered 0 features because the VA driver %s for %s does not start", f, driver),
				"run vainfo to see its error, and clear GStreamer's registry cache after a driver change")
		}
	}
	return missing(element, fmt.Sprintf("GStreamer's va plugin registered 0 features because no VA driver for %s is installed (%s)", driver, strings.Join(known.files, " or ")),
		"install "+known.pkg)
}

// kernelDriver reads the name of the driver behind a render node; empty when sysfs does not say.
func (m machine) kernelDriver(node string) string {
	path := filepath.Join(m.root, "/sys/class/drm", filepath.Base(node), "device/uevent")
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for _, line := range strings.Split(string(text), "\n") {
		if name, ok := strings.CutPrefix(line, "DRIVER="); ok {
			return name
		}
	}
	return ""
}

// vaDriver reports whether a driver file is where libva looks.
func (m machine) vaDriver(file string) bool {
	for _, dir := range m.driverDirs() {
		if _, err := os.Stat(filepath.Join(m.root, dir, file)); err == nil {
			return true
		}
	}
	return false
}

func (m machine) driverDirs() []string {
	if path := os.Getenv("LIBVA_DRIVERS_PATH"); path != "" {
		return filepath.SplitList(path)
	}
	return []string{"/usr/lib/x86_64-linux-gnu/dri", "/usr/lib/aarch64-linux-gnu/dri", "/usr/lib64/dri", "/usr/lib/dri"}
}

func (m machine) findPlugin() (gstpipe.Plugin, bool) {
	if m.plugin != nil {
		return m.plugin()
	}
	return gstpipe.FindPlugin("va")
}

func (m machine) hasElement(factory string) bool {
	if m.has != nil {
		return m.has(factory)
	}
	return gstpipe.HasElement(factory)
}

func (m machine) details() map[string]string {
	out := map[string]string{}
	if p, ok := m.findPlugin(); ok {
		out["plugin"] = "va " + p.Version
	}
	for _, n := range m.nodes() {
		out[filepath.Base(n)] = m.kernelDriver(n)
	}
	return out
}

// explain adds what to try when a pipeline of registered elements fails: the driver refused at run time.
func explain(_ media.Codec, err error) error {
	var u *pluginapi.UnavailableError
	if errors.As(err, &u) {
		return err
	}
	return &pluginapi.UnavailableError{
		Reason: fmt.Sprintf("the VA driver refused at run time: %v", err),
		Remedy: "run vainfo and look at the kernel log; another method (va, va-lp), codec or encoder plugin may work",
	}
}
