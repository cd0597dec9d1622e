//go:build cgo

package gbm

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdint.h>
#include <stddef.h>

// What we use of libgbm's stable ABI (gbm.h, since Mesa 10).
enum { use_rendering = 1 << 2, use_linear = 1 << 4 };

static struct {
	void *library;
	void *(*create_device)(int fd);
	void (*device_destroy)(void *gbm);
	void *(*bo_create)(void *gbm, uint32_t width, uint32_t height, uint32_t format, uint32_t flags);
	void (*bo_destroy)(void *bo);
	int (*bo_get_fd)(void *bo);
	uint32_t (*bo_get_stride)(void *bo);
} lib;

static int load(void) {
	void *l = dlopen("libgbm.so.1", RTLD_NOW | RTLD_LOCAL);
	if (!l)
		return 0;
	*(void **)&lib.create_device = dlsym(l, "gbm_create_device");
	*(void **)&lib.device_destroy = dlsym(l, "gbm_device_destroy");
	*(void **)&lib.bo_create = dlsym(l, "gbm_bo_create");
	*(void **)&lib.bo_destroy = dlsym(l, "gbm_bo_destroy");
	*(void **)&lib.bo_get_fd = dlsym(l, "gbm_bo_get_fd");
	*(void **)&lib.bo_get_stride = dlsym(l, "gbm_bo_get_stride");
	lib.library = l;
	return lib.create_device && lib.device_destroy && lib.bo_create && lib.bo_destroy && lib.bo_get_fd && lib.bo_get_stride;
}

static void *device_open(int fd) { return lib.create_device(fd); }
static void device_close(void *d) { lib.device_destroy(d); }

// allocate returns a descriptor, or -1. The buffer object is not needed once its memory is exported.
static int allocate(void *d, uint32_t width, uint32_t height, uint32_t format, uint32_t *stride) {
	void *bo = lib.bo_create(d, width, height, format, use_rendering | use_linear);
	if (!bo)
		return -1;
	int fd = lib.bo_get_fd(bo);
	*stride = lib.bo_get_stride(bo);
	lib.bo_destroy(bo);
	return fd;
}
*/
import "C"

import (
	"fmt"
	"os"
	"sync"
	"unsafe"
)

var load = sync.OnceValue(func() bool { return C.load() != 0 })

// Device is a GPU to allocate on. It belongs to one goroutine.
type Device struct {
	node   *os.File
	handle unsafe.Pointer
}

// Open opens the render node at path.
func Open(path string) (*Device, error) {
	if !load() {
		return nil, ErrNoLibrary
	}
	node, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open render node: %w", err)
	}
	d := &Device{node: node, handle: C.device_open(C.int(node.Fd()))}
	if d.handle == nil {
		_ = node.Close() // opened for nothing
		return nil, fmt.Errorf("%s: %w", path, ErrNoDevice)
	}
	return d, nil
}

// Allocate returns the descriptor of a linear buffer of one plane, which belongs to the caller, and its bytes per row.
func (d *Device) Allocate(width, height, fourCC uint32) (buffer *os.File, stride uint32, err error) {
	var s C.uint32_t
	fd := C.allocate(d.handle, C.uint32_t(width), C.uint32_t(height), C.uint32_t(fourCC), &s)
	if fd < 0 {
		return nil, 0, fmt.Errorf("%dx%d: %w", width, height, ErrNoMemory)
	}
	return os.NewFile(uintptr(fd), "dmabuf"), uint32(s), nil
}

// Close releases the device; buffers stay.
func (d *Device) Close() error {
	C.device_close(d.handle)
	return d.node.Close()
}
