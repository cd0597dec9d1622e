package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/hostruntime/pluginapi/framesource"
	"github.com/wavry/fleet/plugins/internal/capture"
	"github.com/wavry/fleet/plugins/internal/capture/gbm"
	"github.com/wavry/fleet/plugins/internal/wayland"
)

// driDirectory is where the kernel puts render nodes; tests have their own.
const driDirectory = "/dev/dri"

// dmabufMemory is memory of the GPU that the compositor draws with: its output is blitted there and the encoder imports it, and no
// pixel passes through the CPU.
type dmabufMemory struct {
	desktop *wlrDesktop
	device  *gbm.Device
	node    string
}

// newDMABufMemory says precisely why there is none: the reason ends up in the doctor's matrix.
func newDMABufMemory(d *wlrDesktop) (*dmabufMemory, error) {
	if d.dmabuf == nil {
		return nil, &pluginapi.UnavailableError{
			Reason: "compositor does not offer zwp_linux_dmabuf_v1: it draws without a GPU", Remedy: "use shared memory, or start the compositor on a GPU",
		}
	}
	node, err := renderNode(driDirectory, d.gpu.device())
	if err != nil {
		return nil, err
	}
	device, err := gbm.Open(node)
	if err != nil {
		return nil, &pluginapi.UnavailableError{Reason: err.Error(), Remedy: "install the GPU's driver and libgbm1, and let this user open " + node}
	}
	m := &dmabufMemory{desktop: d, device: device, node: node}
	if err := m.try(); err != nil {
		return nil, errors.Join(&pluginapi.UnavailableError{Reason: err.Error(), Remedy: "use shared memory"}, device.Close())
	}
	return m, nil
}

// trySize is any size that no driver refuses.
const trySize = 256

func (m *dmabufMemory) try() error {
	file, _, err := m.device.Allocate(trySize, trySize, uint32(media.FormatXRGB8888))
	if err != nil {
		return err
	}
	return file.Close()
}

func (*dmabufMemory) pick(o wlrOffer) wlrPicture { return o.dmabuf }

func (m *dmabufMemory) allocate(p wlrPicture) (*capture.Buffer, *wayland.Buffer, error) {
	if p.width > framesource.MaxDimension || p.height > framesource.MaxDimension {
		return nil, nil, fmt.Errorf("compositor offers a picture of %dx%d", p.width, p.height)
	}
	file, stride, err := m.device.Allocate(p.width, p.height, p.format)
	if err != nil {
		return nil, nil, err
	}
	layout := media.Layout{
		Width: int(p.width), Height: int(p.height), Format: media.FourCC(p.format), Planes: []media.Plane{{Stride: int(stride)}},
	}
	var params wayland.LinuxBufferParams
	proxy := &wayland.Buffer{}
	m.desktop.dmabuf.CreateParams(&params)
	params.Add(file, 0, 0, stride, 0, 0) // modifier 0 is linear
	params.CreateImmed(proxy, int32(p.width), int32(p.height), p.format, 0)
	params.Destroy()
	return &capture.Buffer{
		Buffer: framesource.Buffer{
			Memory: framesource.MemoryDMABuf, Size: int64(stride) * int64(p.height), Layout: layout, File: file,
		},
		Gone: file.Close,
	}, proxy, nil
}

func (m *dmabufMemory) close() error { return m.device.Close() }

// renderNode finds the render node of the compositor's GPU (main is its device number; 0: any) in dir.
func renderNode(dir string, main uint64) (string, error) {
	nodes, err := filepath.Glob(filepath.Join(dir, "renderD*"))
	if err != nil || len(nodes) == 0 {
		return "", &pluginapi.UnavailableError{
			Reason: "no DRM render node under " + dir, Remedy: "load the GPU's driver, or use shared memory",
		}
	}
	for _, n := range nodes {
		if sameGPU(n, main) {
			return n, nil
		}
	}
	return nodes[0], nil
}

// sameGPU compares a render node with the compositor's device, which may be the same GPU's primary node.
func sameGPU(node string, main uint64) bool {
	var st unix.Stat_t
	if main == 0 || unix.Stat(node, &st) != nil {
		return false
	}
	return st.Rdev == main || devicePath(st.Rdev) == devicePath(main)
}

// devicePath is the hardware behind a device number; of an unknown one it is something that no other has.
func devicePath(dev uint64) string {
	path, err := os.Readlink(fmt.Sprintf("/sys/dev/char/%d:%d/device", unix.Major(dev), unix.Minor(dev)))
	if err != nil {
		return fmt.Sprint(dev)
	}
	return path
}

// gpu learns from the compositor which device it draws with.
type gpu struct {
	feedback wayland.LinuxDmabufFeedback

	mu   sync.Mutex // guards main
	main uint64
}

// minFeedback is the version of zwp_linux_dmabuf_v1 that tells the main device.
const minFeedback = 4

// ask is answered with the next roundtrip.
func (g *gpu) ask(d *wayland.LinuxDmabuf) {
	if d == nil || d.Version() < minFeedback {
		return
	}
	g.feedback.On.MainDevice = func(dev []byte) {
		if len(dev) != 8 { // a dev_t
			return
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		g.main = binary.NativeEndian.Uint64(dev)
	}
	d.GetDefaultFeedback(&g.feedback)
}

func (g *gpu) device() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.main
}
