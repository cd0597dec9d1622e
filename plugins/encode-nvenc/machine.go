package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/plugins/internal/gstpipe"
)

// machine answers what the node has. Its zero value is this node; tests set root to a folder and replace the rest.
type machine struct {
	root    string
	plugin  func() (gstpipe.Plugin, bool)
	has     func(factory string) bool
	library func(name string) string
	open    func(path string) error
}

// libraries that the driver brings and nvcodec loads at run time, with what they are for.
var libraries = []struct{ name, purpose string }{
	{"libcuda.so.1", "CUDA"},
	{"libnvidia-encode.so.1", "NVENC"},
}

// why says why a codec cannot be encoded here, from the hardware up; nil when its element is registered.
func (m machine) why(c media.Codec, gpu string) *pluginapi.UnavailableError {
	if u := m.driver(); u != nil {
		return u
	}
	for _, l := range libraries {
		if text := m.loadError(l.name); text != "" {
			return &pluginapi.UnavailableError{
				Reason: fmt.Sprintf("NVIDIA driver present, %s missing: %s", l.purpose, text),
				Remedy: "install the driver's user-space libraries of the same version (Debian: libcuda1, libnvidia-encode1; containers: NVIDIA_DRIVER_CAPABILITIES=video,compute)",
			}
		}
	}
	element := candidates(c, gpu)[0]
	plugin, ok := m.findPlugin()
	switch {
	case !ok:
		return missing(element, "GStreamer's nvcodec plugin is not installed", "install gstreamer1.0-plugins-bad >= 1.22")
	case plugin.Features == 0:
		return missing(element, "GStreamer's nvcodec plugin registered 0 features because CUDA or NVENC does not start",
			"run nvidia-smi to see the driver's error, and clear GStreamer's registry cache after a driver change")
	case m.encoder(c, gpu) == "":
		return missing(element, fmt.Sprintf("driver present, no encode entrypoint: the GPU has no NVENC for %v (nvcodec registered %d features and no %s)",
			c, plugin.Features, strings.Join(candidates(c, gpu), " or ")),
			"use another codec or encode-software; compute GPUs (A100, H100, H200) have no encoder at all")
	}
	return nil
}

// driver needs the control device and one GPU.
func (m machine) driver() *pluginapi.UnavailableError {
	control := "/dev/nvidiactl"
	if _, err := os.Stat(filepath.Join(m.root, control)); err != nil {
		return &pluginapi.UnavailableError{
			Reason: "NVIDIA driver not loaded: /dev/nvidiactl missing",
			Remedy: "load the nvidia kernel module and give the allocation the GPU (Nomad's NVIDIA device plugin), or use encode-vaapi or encode-software",
		}
	}
	if gpus, err := filepath.Glob(filepath.Join(m.root, "/dev/nvidia[0-9]*")); err != nil || len(gpus) == 0 {
		return &pluginapi.UnavailableError{Reason: "no NVIDIA GPU given to this process: /dev/nvidia0 missing", Remedy: "add a device block for nvidia/gpu to the job"}
	}
	if err := m.tryOpen(filepath.Join(m.root, control)); err != nil {
		remedy := "check the device with nvidia-smi and the kernel log"
		if errors.Is(err, fs.ErrPermission) {
			remedy = "add the user that runs the host runtime to the group that owns it (usually video), or use the NVIDIA container toolkit"
		}
		return &pluginapi.UnavailableError{Reason: fmt.Sprintf("NVIDIA device cannot be used: %v", err), Remedy: remedy}
	}
	return nil
}

func missing(element, because, remedy string) *pluginapi.UnavailableError {
	return &pluginapi.UnavailableError{Reason: fmt.Sprintf("element %s missing: %s", element, because), Remedy: remedy}
}

// encoder is the registered element for a codec, empty when there is none.
func (m machine) encoder(c media.Codec, gpu string) string {
	for _, f := range candidates(c, gpu) {
		if m.hasElement(f) {
			return f
		}
	}
	return ""
}

// encoderOrFirst is encoder, or the name to miss when there is none.
func (m machine) encoderOrFirst(c media.Codec, gpu string) string {
	if e := m.encoder(c, gpu); e != "" {
		return e
	}
	return candidates(c, gpu)[0]
}

func (m machine) tryOpen(path string) error {
	if m.open != nil {
		return m.open(path)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

func (m machine) loadError(name string) string {
	if m.library != nil {
		return m.library(name)
	}
	return gstpipe.LibraryError(name)
}

func (m machine) findPlugin() (gstpipe.Plugin, bool) {
	if m.plugin != nil {
		return m.plugin()
	}
	return gstpipe.FindPlugin("nvcodec")
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
		out["plugin"] = "nvcodec " + p.Version
	}
	if text, err := os.ReadFile(filepath.Join(m.root, "/sys/module/nvidia/version")); err == nil {
		out["driver"] = strings.TrimSpace(string(text))
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
		Reason: fmt.Sprintf("NVENC refused at run time: %v", err),
		Remedy: "run nvidia-smi: all encoder sessions may be taken (consumer GPUs have a limit), or GPU memory is full; another codec may work",
	}
}
