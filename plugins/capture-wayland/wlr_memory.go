package main

import (
	"fmt"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/plugins/internal/capture"
	"github.com/wavry/fleet/plugins/internal/wayland"
)

// The kinds of memory that the option memory chooses from.
const (
	memoryShm    = "shm"
	memoryDMABuf = "dmabuf"
	memoryAuto   = "auto"
)

// wlrMemory is where pictures are written to.
type wlrMemory interface {
	// pick selects what it can hold; zero when the compositor does not offer it.
	pick(wlrOffer) wlrPicture
	// allocate makes a buffer and tells the compositor of it.
	allocate(wlrPicture) (*capture.Buffer, *wayland.Buffer, error)
	close() error
}

// memories lists what to try, best first, and why better ones are not among them. It is never empty without an error.
func memories(d *wlrDesktop, wish string) ([]wlrMemory, string, error) {
	if wish == memoryShm {
		return []wlrMemory{shmMemory{d}}, "pictures in shared memory", nil
	}
	gpu, err := newDMABufMemory(d)
	switch {
	case err == nil && wish == memoryDMABuf:
		return []wlrMemory{gpu}, "pictures in DMA-BUFs of " + gpu.node, nil
	case err == nil:
		return []wlrMemory{gpu, shmMemory{d}}, "pictures in DMA-BUFs of " + gpu.node, nil
	case wish == memoryDMABuf:
		return nil, "", fmt.Errorf("DMA-BUFs were asked for: %w", err)
	}
	return []wlrMemory{shmMemory{d}}, "pictures in shared memory because of DMA-BUF: " + err.Error(), nil
}

// shmMemory is wl_shm: the compositor reads its output back into sealed shared memory, the very memory the encoder maps.
type shmMemory struct{ desktop *wlrDesktop }

func (shmMemory) close() error { return nil }

func (shmMemory) pick(o wlrOffer) wlrPicture { return o.shm }

func (m shmMemory) allocate(p wlrPicture) (*capture.Buffer, *wayland.Buffer, error) {
	format, err := fourCC(p.format)
	if err != nil {
		return nil, nil, err
	}
	if err := checkPicture(p); err != nil {
		return nil, nil, err
	}
	b, err := capture.NewSharedBuffer(media.Layout{
		Width: int(p.width), Height: int(p.height), Format: format, Planes: []media.Plane{{Stride: int(p.stride)}},
	})
	if err != nil {
		return nil, nil, err
	}
	var pool wayland.ShmPool
	proxy := &wayland.Buffer{}
	m.desktop.shm.CreatePool(&pool, b.File, int32(b.Size))
	pool.CreateBuffer(proxy, 0, int32(p.width), int32(p.height), int32(p.stride), p.format)
	pool.Destroy() // the buffer keeps it alive
	return b, proxy, nil
}

// checkPicture keeps a compositor's nonsense from becoming ours.
func checkPicture(p wlrPicture) error {
	if p.width > 16384 || p.height > 16384 || p.stride < 4*p.width || uint64(p.stride)*uint64(p.height) > 1<<30 {
		return fmt.Errorf("compositor offers a picture of %dx%d with %d bytes a row", p.width, p.height, p.stride)
	}
	return nil
}
