// Code generated from protocols.txt by go generate. DO NOT EDIT.

package wayland

import "os"

// display is wl_display, known up to version 1.
type display struct {
	object
	// On has the handlers of the object's events; nil ones are skipped. Set them before the object is made.
	On struct {
		Error    func(objectId uint32, code uint32, message string)
		DeleteId func(id uint32)
	}
}

var interfaceDisplay = Interface{Name: "wl_display", Version: 1, fds: []int{0, 0}}

func (o *display) describe() *Interface { return &interfaceDisplay }

// Sync sends wl_display.sync.
func (o *display) Sync(callback *Callback) {
	m := o.begin(0)
	m.create(callback, o.version)
	m.end()
}

// GetRegistry sends wl_display.get_registry.
func (o *display) GetRegistry(registry *registry) {
	m := o.begin(1)
	m.create(registry, o.version)
	m.end()
}

func (o *display) dispatch(opcode uint16, a *args) {
	switch opcode {
	case 0: // error
		objectId := a.uint()
		code := a.uint()
		message := a.string()
		if a.ok() && o.On.Error != nil {
			o.On.Error(objectId, code, message)
		}
	case 1: // delete_id
		id := a.uint()
		if a.ok() && o.On.DeleteId != nil {
			o.On.DeleteId(id)
		}
	default:
		a.unknownEvent(opcode)
	}
}

// registry is wl_registry, known up to version 1.
type registry struct {
	object
	// On has the handlers of the object's events; nil ones are skipped. Set them before the object is made.
	On struct {
		Global       func(name uint32, interface_ string, version uint32)
		GlobalRemove func(name uint32)
	}
}

var interfaceRegistry = Interface{Name: "wl_registry", Version: 1, fds: []int{0, 0}}

func (o *registry) describe() *Interface { return &interfaceRegistry }

func (o *registry) dispatch(opcode uint16, a *args) {
	switch opcode {
	case 0: // global
		name := a.uint()
		interface_ := a.string()
		version := a.uint()
		if a.ok() && o.On.Global != nil {
			o.On.Global(name, interface_, version)
		}
	case 1: // global_remove
		name := a.uint()
		if a.ok() && o.On.GlobalRemove != nil {
			o.On.GlobalRemove(name)
		}
	default:
		a.unknownEvent(opcode)
	}
}

// Callback is wl_callback, known up to version 1.
type Callback struct {
	object
	// On has the handlers of the object's events; nil ones are skipped. Set them before the object is made.
	On struct {
		Done func(callbackData uint32)
	}
}

var interfaceCallback = Interface{Name: "wl_callback", Version: 1, fds: []int{0}}

func (o *Callback) describe() *Interface { return &interfaceCallback }

func (o *Callback) dispatch(opcode uint16, a *args) {
	switch opcode {
	case 0: // done
		callbackData := a.uint()
		if a.ok() && o.On.Done != nil {
			o.On.Done(callbackData)
		}
	default:
		a.unknownEvent(opcode)
	}
}

// Shm is wl_shm, known up to version 1.
type Shm struct {
	object
	// On has the handlers of the object's events; nil ones are skipped. Set them before the object is made.
	On struct {
		Format func(format uint32)
	}
}

var interfaceShm = Interface{Name: "wl_shm", Version: 1, fds: []int{0}}

func (o *Shm) describe() *Interface { return &interfaceShm }

// CreatePool sends wl_shm.create_pool.
func (o *Shm) CreatePool(id *ShmPool, fd *os.File, size int32) {
	m := o.begin(0)
	m.create(id, o.version)
	m.fd(fd)
	m.int(size)
	m.end()
}

func (o *Shm) dispatch(opcode uint16, a *args) {
	switch opcode {
	case 0: // format
		format := a.uint()
		if a.ok() && o.On.Format != nil {
			o.On.Format(format)
		}
	default:
		a.unknownEvent(opcode)
	}
}

// ShmPool is wl_shm_pool, known up to version 1.
type ShmPool struct {
	object
}

var interfaceShmPool = Interface{Name: "wl_shm_pool", Version: 1, fds: []int{}}

func (o *ShmPool) describe() *Interface { return &interfaceShmPool }

// CreateBuffer sends wl_shm_pool.create_buffer.
func (o *ShmPool) CreateBuffer(id *Buffer, offset int32, width int32, height int32, stride int32, format uint32) {
	m := o.begin(0)
	m.create(id, o.version)
	m.int(offset)
	m.int(width)
	m.int(height)
	m.int(stride)
	m.uint(format)
	m.end()
}

// Destroy sends wl_shm_pool.destroy, and ends the object's life.
func (o *ShmPool) Destroy() {
	m := o.begin(1)
	o.retire()
	m.end()
}

// Resize sends wl_shm_pool.resize.
func (o *ShmPool) Resize(size int32) {
	m := o.begin(2)
	m.int(size)
	m.end()
}

func (o *ShmPool) dispatch(opcode uint16, a *args) {
	a.unknownEvent(opcode)
}

// Buffer is wl_buffer, known up to version 1.
type Buffer struct {
	object
	// On has the handlers of the object's events; nil ones are skipped. Set them before the object is made.
	On struct {
		Release func()
	}
}

var interfaceBuffer = Interface{Name: "wl_buffer", Version: 1, fds: []int{0}}

func (o *Buffer) describe() *Interface { return &interfaceBuffer }

// Destroy sends wl_buffer.destroy, and ends the object's life.
func (o *Buffer) Destroy() {
	m := o.begin(0)
	o.retire()
	m.end()
}

func (o *Buffer) dispatch(opcode uint16, a *args) {
	switch opcode {
	case 0: // release
		if a.ok() && o.On.Release != nil {
			o.On.Release()
		}
	default:
		a.unknownEvent(opcode)
	}
}

// Output is wl_output, known up to version 4.
type Output struct {
	object
	// On has the handlers of the object's events; nil ones are skipped. Set them before the object is made.
	On struct {
		Geometry func(x int32, y int32, physicalWidth int32, physicalHeight int32, subpixel int32, make string, model string, transform int32)
		Mode     func(flags uint32, width int32, height int32, refresh int32)
		// Done comes since version 2.
		Done func()
		// Scale comes since version 2.
		Scale func(factor int32)
		// Name comes since version 4.
		Name func(name string)
		// Description comes since version 4.
		Description func(description string)
	}
}

var interfaceOutput = Interface{Name: "wl_output", Version: 4, fds: []int{0, 0, 0, 0, 0, 0}}

func (o *Output) describe() *Interface { return &interfaceOutput }

// Release sends wl_output.release, which exists since version 3, and ends the object's life.
func (o *Output) Release() {
	m := o.begin(0)
	o.retire()
	m.end()
}

func (o *Output) dispatch(opcode uint16, a *args) {
	switch opcode {
	case 0: // geometry
		x := a.int()
		y := a.int()
		physicalWidth := a.int()
		physicalHeight := a.int()
		subpixel := a.int()
		make := a.string()
		model := a.string()
		transform := a.int()
		if a.ok() && o.On.Geometry != nil {
			o.On.Geometry(x, y, physicalWidth, physicalHeight, subpixel, make, model, transform)
		}
	case 1: // mode
		flags := a.uint()
		width := a.int()
		height := a.int()
		refresh := a.int()
		if a.ok() && o.On.Mode != nil {
			o.On.Mode(flags, width, height, refresh)
		}
	case 2: // done
		if a.ok() && o.On.Done != nil {
			o.On.Done()
		}
	case 3: // scale
		factor := a.int()
		if a.ok() && o.On.Scale != nil {
			o.On.Scale(factor)
		}
	case 4: // name
		name := a.string()
		if a.ok() && o.On.Name != nil {
			o.On.Name(name)
		}
	case 5: // description
		description := a.string()
		if a.ok() && o.On.Description != nil {
			o.On.Description(description)
		}
	default:
		a.unknownEvent(opcode)
	}
}

// Seat is wl_seat, known up to version 8.
type Seat struct {
	object
	// On has the handlers of the object's events; nil ones are skipped. Set them before the object is made.
	On struct {
		Capabilities func(capabilities uint32)
		// Name comes since version 2.
		Name func(name string)
	}
}

var interfaceSeat = Interface{Name: "wl_seat", Version: 8, fds: []int{0, 0}}

func (o *Seat) describe() *Interface { return &interfaceSeat }

// GetKeyboard sends wl_seat.get_keyboard.
func (o *Seat) GetKeyboard(id *Keyboard) {
	m := o.begin(1)
	m.create(id, o.version)
	m.end()
}

// Release sends wl_seat.release, which exists since version 5, and ends the object's life.
func (o *Seat) Release() {
	m := o.begin(3)
	o.retire()
	m.end()
}

func (o *Seat) dispatch(opcode uint16, a *args) {
	switch opcode {
	case 0: // capabilities
		capabilities := a.uint()
		if a.ok() && o.On.Capabilities != nil {
			o.On.Capabilities(capabilities)
		}
	case 1: // name
		name := a.string()
		if a.ok() && o.On.Name != nil {
			o.On.Name(name)
		}
	default:
		a.unknownEvent(opcode)
	}
}

// Keyboard is wl_keyboard, known up to version 8.
type Keyboard struct {
	object
	// On has the handlers of the object's events; nil ones are skipped. Set them before the object is made.
	On struct {
		Keymap    func(format uint32, fd *os.File, size uint32)
		Enter     func(serial uint32, surface uint32, keys []byte)
		Leave     func(serial uint32, surface uint32)
		Key       func(serial uint32, time uint32, key uint32, state uint32)
		Modifiers func(serial uint32, modsDepressed uint32, modsLatched uint32, modsLocked uint32, group uint32)
		// RepeatInfo comes since version 4.
		RepeatInfo func(rate int32, delay int32)
	}
}

var interfaceKeyboard = Interface{Name: "wl_keyboard", Version: 8, fds: []int{1, 0, 0, 0, 0, 0}}

func (o *Keyboard) describe() *Interface { return &interfaceKeyboard }

// Release sends wl_keyboard.release, which exists since version 3, and ends the object's life.
func (o *Keyboard) Release() {
	m := o.begin(0)
	o.retire()
	m.end()
}

func (o *Keyboard) dispatch(opcode uint16, a *args) {
	switch opcode {
	case 0: // keymap
		format := a.uint()
		fd := a.fd()
		size := a.uint()
		if a.ok() && o.On.Keymap != nil {
			o.On.Keymap(format, fd, size)
		} else {
			closeUnwanted(fd)
		}
	case 1: // enter
		serial := a.uint()
		surface := a.uint()
		keys := a.array()
		if a.ok() && o.On.Enter != nil {
			o.On.Enter(serial, surface, keys)
		}
	case 2: // leave
		serial := a.uint()
		surface := a.uint()
		if a.ok() && o.On.Leave != nil {
			o.On.Leave(serial, surface)
		}
	case 3: // key
		serial := a.uint()
		time := a.uint()
		key := a.uint()
		state := a.uint()
		if a.ok() && o.On.Key != nil {
			o.On.Key(serial, time, key, state)
		}
	case 4: // modifiers
		serial := a.uint()
		modsDepressed := a.uint()
		modsLatched := a.uint()
		modsLocked := a.uint()
		group := a.uint()
		if a.ok() && o.On.Modifiers != nil {
			o.On.Modifiers(serial, modsDepressed, modsLatched, modsLocked, group)
		}
	case 5: // repeat_info
		rate := a.int()
		delay := a.int()
		if a.ok() && o.On.RepeatInfo != nil {
			o.On.RepeatInfo(rate, delay)
		}
	default:
		a.unknownEvent(opcode)
	}
}

// ScreencopyManager is zwlr_screencopy_manager_v1, known up to version 3.
type ScreencopyManager struct {
	object
}

var interfaceScreencopyManager = Interface{Name: "zwlr_screencopy_manager_v1", Version: 3, fds: []int{}}

func (o *ScreencopyManager) describe() *Interface { return &interfaceScreencopyManager }

// CaptureOutput sends zwlr_screencopy_manager_v1.capture_output.
func (o *ScreencopyManager) CaptureOutput(frame *ScreencopyFrame, overlayCursor int32, output *Output) {
	m := o.begin(0)
	m.create(frame, o.version)
	m.int(overlayCursor)
	m.uint(output.id)
	m.end()
}

// CaptureOutputRegion sends zwlr_screencopy_manager_v1.capture_output_region.
func (o *ScreencopyManager) CaptureOutputRegion(frame *ScreencopyFrame, overlayCursor int32, output *Output, x int32, y int32, width int32, height int32) {
	m := o.begin(1)
	m.create(frame, o.version)
	m.int(overlayCursor)
	m.uint(output.id)
	m.int(x)
	m.int(y)
	m.int(width)
	m.int(height)
	m.end()
}

// Destroy sends zwlr_screencopy_manager_v1.destroy, and ends the object's life.
func (o *ScreencopyManager) Destroy() {
	m := o.begin(2)
	o.retire()
	m.end()
}

func (o *ScreencopyManager) dispatch(opcode uint16, a *args) {
	a.unknownEvent(opcode)
}

// ScreencopyFrame is zwlr_screencopy_frame_v1, known up to version 3.
type ScreencopyFrame struct {
	object
	// On has the handlers of the object's events; nil ones are skipped. Set them before the object is made.
	On struct {
		Buffer func(format uint32, width uint32, height uint32, stride uint32)
		Flags  func(flags uint32)
		Ready  func(tvSecHi uint32, tvSecLo uint32, tvNsec uint32)
		Failed func()
		// Damage comes since version 2.
		Damage func(x uint32, y uint32, width uint32, height uint32)
		// LinuxDmabuf comes since version 3.
		LinuxDmabuf func(format uint32, width uint32, height uint32)
		// BufferDone comes since version 3.
		BufferDone func()
	}
}

var interfaceScreencopyFrame = Interface{Name: "zwlr_screencopy_frame_v1", Version: 3, fds: []int{0, 0, 0, 0, 0, 0, 0}}

func (o *ScreencopyFrame) describe() *Interface { return &interfaceScreencopyFrame }

// Copy sends zwlr_screencopy_frame_v1.copy.
func (o *ScreencopyFrame) Copy(buffer *Buffer) {
	m := o.begin(0)
	m.uint(buffer.id)
	m.end()
}

// Destroy sends zwlr_screencopy_frame_v1.destroy, and ends the object's life.
func (o *ScreencopyFrame) Destroy() {
	m := o.begin(1)
	o.retire()
	m.end()
}

// CopyWithDamage sends zwlr_screencopy_frame_v1.copy_with_damage, which exists since version 2.
func (o *ScreencopyFrame) CopyWithDamage(buffer *Buffer) {
	m := o.begin(2)
	m.uint(buffer.id)
	m.end()
}

func (o *ScreencopyFrame) dispatch(opcode uint16, a *args) {
	switch opcode {
	case 0: // buffer
		format := a.uint()
		width := a.uint()
		height := a.uint()
		stride := a.uint()
		if a.ok() && o.On.Buffer != nil {
			o.On.Buffer(format, width, height, stride)
		}
	case 1: // flags
		flags := a.uint()
		if a.ok() && o.On.Flags != nil {
			o.On.Flags(flags)
		}
	case 2: // ready
		tvSecHi := a.uint()
		tvSecLo := a.uint()
		tvNsec := a.uint()
		if a.ok() && o.On.Ready != nil {
			o.On.Ready(tvSecHi, tvSecLo, tvNsec)
		}
	case 3: // failed
		if a.ok() && o.On.Failed != nil {
			o.On.Failed()
		}
	case 4: // damage
		x := a.uint()
		y := a.uint()
		width := a.uint()
		height := a.uint()
		if a.ok() && o.On.Damage != nil {
			o.On.Damage(x, y, width, height)
		}
	case 5: // linux_dmabuf
		format := a.uint()
		width := a.uint()
		height := a.uint()
		if a.ok() && o.On.LinuxDmabuf != nil {
			o.On.LinuxDmabuf(format, width, height)
		}
	case 6: // buffer_done
		if a.ok() && o.On.BufferDone != nil {
			o.On.BufferDone()
		}
	default:
		a.unknownEvent(opcode)
	}
}

// LinuxDmabuf is zwp_linux_dmabuf_v1, known up to version 4.
type LinuxDmabuf struct {
	object
	// On has the handlers of the object's events; nil ones are skipped. Set them before the object is made.
	On struct {
		Format func(format uint32)
		// Modifier comes since version 3.
		Modifier func(format uint32, modifierHi uint32, modifierLo uint32)
	}
}

var interfaceLinuxDmabuf = Interface{Name: "zwp_linux_dmabuf_v1", Version: 4, fds: []int{0, 0}}

func (o *LinuxDmabuf) describe() *Interface { return &interfaceLinuxDmabuf }

// Destroy sends zwp_linux_dmabuf_v1.destroy, and ends the object's life.
func (o *LinuxDmabuf) Destroy() {
	m := o.begin(0)
	o.retire()
	m.end()
}

// CreateParams sends zwp_linux_dmabuf_v1.create_params.
func (o *LinuxDmabuf) CreateParams(paramsId *LinuxBufferParams) {
	m := o.begin(1)
	m.create(paramsId, o.version)
	m.end()
}

// GetDefaultFeedback sends zwp_linux_dmabuf_v1.get_default_feedback, which exists since version 4.
func (o *LinuxDmabuf) GetDefaultFeedback(id *LinuxDmabufFeedback) {
	m := o.begin(2)
	m.create(id, o.version)
	m.end()
}

// GetSurfaceFeedback sends zwp_linux_dmabuf_v1.get_surface_feedback, which exists since version 4.
func (o *LinuxDmabuf) GetSurfaceFeedback(id *LinuxDmabufFeedback, surface uint32) {
	m := o.begin(3)
	m.create(id, o.version)
	m.uint(surface)
	m.end()
}

func (o *LinuxDmabuf) dispatch(opcode uint16, a *args) {
	switch opcode {
	case 0: // format
		format := a.uint()
		if a.ok() && o.On.Format != nil {
			o.On.Format(format)
		}
	case 1: // modifier
		format := a.uint()
		modifierHi := a.uint()
		modifierLo := a.uint()
		if a.ok() && o.On.Modifier != nil {
			o.On.Modifier(format, modifierHi, modifierLo)
		}
	default:
		a.unknownEvent(opcode)
	}
}

// LinuxBufferParams is zwp_linux_buffer_params_v1, known up to version 4.
type LinuxBufferParams struct {
	object
	// On has the handlers of the object's events; nil ones are skipped. Set them before the object is made.
	On struct {
		Created func(buffer *Buffer)
		Failed  func()
	}
}

var interfaceLinuxBufferParams = Interface{Name: "zwp_linux_buffer_params_v1", Version: 4, fds: []int{0, 0}}

func (o *LinuxBufferParams) describe() *Interface { return &interfaceLinuxBufferParams }

// Destroy sends zwp_linux_buffer_params_v1.destroy, and ends the object's life.
func (o *LinuxBufferParams) Destroy() {
	m := o.begin(0)
	o.retire()
	m.end()
}

// Add sends zwp_linux_buffer_params_v1.add.
func (o *LinuxBufferParams) Add(fd *os.File, planeIdx uint32, offset uint32, stride uint32, modifierHi uint32, modifierLo uint32) {
	m := o.begin(1)
	m.fd(fd)
	m.uint(planeIdx)
	m.uint(offset)
	m.uint(stride)
	m.uint(modifierHi)
	m.uint(modifierLo)
	m.end()
}

// Create sends zwp_linux_buffer_params_v1.create.
func (o *LinuxBufferParams) Create(width int32, height int32, format uint32, flags uint32) {
	m := o.begin(2)
	m.int(width)
	m.int(height)
	m.uint(format)
	m.uint(flags)
	m.end()
}

// CreateImmed sends zwp_linux_buffer_params_v1.create_immed, which exists since version 2.
func (o *LinuxBufferParams) CreateImmed(bufferId *Buffer, width int32, height int32, format uint32, flags uint32) {
	m := o.begin(3)
	m.create(bufferId, o.version)
	m.int(width)
	m.int(height)
	m.uint(format)
	m.uint(flags)
	m.end()
}

func (o *LinuxBufferParams) dispatch(opcode uint16, a *args) {
	switch opcode {
	case 0: // created
		buffer := new(Buffer)
		a.adopt(buffer, o.conn, o.version)
		if a.ok() && o.On.Created != nil {
			o.On.Created(buffer)
		}
	case 1: // failed
		if a.ok() && o.On.Failed != nil {
			o.On.Failed()
		}
	default:
		a.unknownEvent(opcode)
	}
}

// LinuxDmabufFeedback is zwp_linux_dmabuf_feedback_v1, known up to version 4.
type LinuxDmabufFeedback struct {
	object
	// On has the handlers of the object's events; nil ones are skipped. Set them before the object is made.
	On struct {
		Done                func()
		FormatTable         func(fd *os.File, size uint32)
		MainDevice          func(device []byte)
		TrancheDone         func()
		TrancheTargetDevice func(device []byte)
		TrancheFormats      func(indices []byte)
		TrancheFlags        func(flags uint32)
	}
}

var interfaceLinuxDmabufFeedback = Interface{Name: "zwp_linux_dmabuf_feedback_v1", Version: 4, fds: []int{0, 1, 0, 0, 0, 0, 0}}

func (o *LinuxDmabufFeedback) describe() *Interface { return &interfaceLinuxDmabufFeedback }

// Destroy sends zwp_linux_dmabuf_feedback_v1.destroy, and ends the object's life.
func (o *LinuxDmabufFeedback) Destroy() {
	m := o.begin(0)
	o.retire()
	m.end()
}

func (o *LinuxDmabufFeedback) dispatch(opcode uint16, a *args) {
	switch opcode {
	case 0: // done
		if a.ok() && o.On.Done != nil {
			o.On.Done()
		}
	case 1: // format_table
		fd := a.fd()
		size := a.uint()
		if a.ok() && o.On.FormatTable != nil {
			o.On.FormatTable(fd, size)
		} else {
			closeUnwanted(fd)
		}
	case 2: // main_device
		device := a.array()
		if a.ok() && o.On.MainDevice != nil {
			o.On.MainDevice(device)
		}
	case 3: // tranche_done
		if a.ok() && o.On.TrancheDone != nil {
			o.On.TrancheDone()
		}
	case 4: // tranche_target_device
		device := a.array()
		if a.ok() && o.On.TrancheTargetDevice != nil {
			o.On.TrancheTargetDevice(device)
		}
	case 5: // tranche_formats
		indices := a.array()
		if a.ok() && o.On.TrancheFormats != nil {
			o.On.TrancheFormats(indices)
		}
	case 6: // tranche_flags
		flags := a.uint()
		if a.ok() && o.On.TrancheFlags != nil {
			o.On.TrancheFlags(flags)
		}
	default:
		a.unknownEvent(opcode)
	}
}

// VirtualKeyboardManager is zwp_virtual_keyboard_manager_v1, known up to version 1.
type VirtualKeyboardManager struct {
	object
}

var interfaceVirtualKeyboardManager = Interface{Name: "zwp_virtual_keyboard_manager_v1", Version: 1, fds: []int{}}

func (o *VirtualKeyboardManager) describe() *Interface { return &interfaceVirtualKeyboardManager }

// CreateVirtualKeyboard sends zwp_virtual_keyboard_manager_v1.create_virtual_keyboard.
func (o *VirtualKeyboardManager) CreateVirtualKeyboard(seat *Seat, id *VirtualKeyboard) {
	m := o.begin(0)
	m.uint(seat.id)
	m.create(id, o.version)
	m.end()
}

func (o *VirtualKeyboardManager) dispatch(opcode uint16, a *args) {
	a.unknownEvent(opcode)
}

// VirtualKeyboard is zwp_virtual_keyboard_v1, known up to version 1.
type VirtualKeyboard struct {
	object
}

var interfaceVirtualKeyboard = Interface{Name: "zwp_virtual_keyboard_v1", Version: 1, fds: []int{}}

func (o *VirtualKeyboard) describe() *Interface { return &interfaceVirtualKeyboard }

// Keymap sends zwp_virtual_keyboard_v1.keymap.
func (o *VirtualKeyboard) Keymap(format uint32, fd *os.File, size uint32) {
	m := o.begin(0)
	m.uint(format)
	m.fd(fd)
	m.uint(size)
	m.end()
}

// Key sends zwp_virtual_keyboard_v1.key.
func (o *VirtualKeyboard) Key(time uint32, key uint32, state uint32) {
	m := o.begin(1)
	m.uint(time)
	m.uint(key)
	m.uint(state)
	m.end()
}

// Modifiers sends zwp_virtual_keyboard_v1.modifiers.
func (o *VirtualKeyboard) Modifiers(modsDepressed uint32, modsLatched uint32, modsLocked uint32, group uint32) {
	m := o.begin(2)
	m.uint(modsDepressed)
	m.uint(modsLatched)
	m.uint(modsLocked)
	m.uint(group)
	m.end()
}

// Destroy sends zwp_virtual_keyboard_v1.destroy, and ends the object's life.
func (o *VirtualKeyboard) Destroy() {
	m := o.begin(3)
	o.retire()
	m.end()
}

func (o *VirtualKeyboard) dispatch(opcode uint16, a *args) {
	a.unknownEvent(opcode)
}

// VirtualPointerManager is zwlr_virtual_pointer_manager_v1, known up to version 2.
type VirtualPointerManager struct {
	object
}

var interfaceVirtualPointerManager = Interface{Name: "zwlr_virtual_pointer_manager_v1", Version: 2, fds: []int{}}

func (o *VirtualPointerManager) describe() *Interface { return &interfaceVirtualPointerManager }

// CreateVirtualPointer sends zwlr_virtual_pointer_manager_v1.create_virtual_pointer.
func (o *VirtualPointerManager) CreateVirtualPointer(seat *Seat, id *VirtualPointer) {
	m := o.begin(0)
	if seat == nil {
		m.uint(0)
	} else {
		m.uint(seat.id)
	}
	m.create(id, o.version)
	m.end()
}

// Destroy sends zwlr_virtual_pointer_manager_v1.destroy, and ends the object's life.
func (o *VirtualPointerManager) Destroy() {
	m := o.begin(1)
	o.retire()
	m.end()
}

// CreateVirtualPointerWithOutput sends zwlr_virtual_pointer_manager_v1.create_virtual_pointer_with_output, which exists since version 2.
func (o *VirtualPointerManager) CreateVirtualPointerWithOutput(seat *Seat, output *Output, id *VirtualPointer) {
	m := o.begin(2)
	if seat == nil {
		m.uint(0)
	} else {
		m.uint(seat.id)
	}
	if output == nil {
		m.uint(0)
	} else {
		m.uint(output.id)
	}
	m.create(id, o.version)
	m.end()
}

func (o *VirtualPointerManager) dispatch(opcode uint16, a *args) {
	a.unknownEvent(opcode)
}

// VirtualPointer is zwlr_virtual_pointer_v1, known up to version 2.
type VirtualPointer struct {
	object
}

var interfaceVirtualPointer = Interface{Name: "zwlr_virtual_pointer_v1", Version: 2, fds: []int{}}

func (o *VirtualPointer) describe() *Interface { return &interfaceVirtualPointer }

// Motion sends zwlr_virtual_pointer_v1.motion.
func (o *VirtualPointer) Motion(time uint32, dx float64, dy float64) {
	m := o.begin(0)
	m.uint(time)
	m.fixed(dx)
	m.fixed(dy)
	m.end()
}

// MotionAbsolute sends zwlr_virtual_pointer_v1.motion_absolute.
func (o *VirtualPointer) MotionAbsolute(time uint32, x uint32, y uint32, xExtent uint32, yExtent uint32) {
	m := o.begin(1)
	m.uint(time)
	m.uint(x)
	m.uint(y)
	m.uint(xExtent)
	m.uint(yExtent)
	m.end()
}

// Button sends zwlr_virtual_pointer_v1.button.
func (o *VirtualPointer) Button(time uint32, button uint32, state uint32) {
	m := o.begin(2)
	m.uint(time)
	m.uint(button)
	m.uint(state)
	m.end()
}

// Axis sends zwlr_virtual_pointer_v1.axis.
func (o *VirtualPointer) Axis(time uint32, axis uint32, value float64) {
	m := o.begin(3)
	m.uint(time)
	m.uint(axis)
	m.fixed(value)
	m.end()
}

// Frame sends zwlr_virtual_pointer_v1.frame.
func (o *VirtualPointer) Frame() {
	m := o.begin(4)
	m.end()
}

// AxisSource sends zwlr_virtual_pointer_v1.axis_source.
func (o *VirtualPointer) AxisSource(axisSource uint32) {
	m := o.begin(5)
	m.uint(axisSource)
	m.end()
}

// AxisStop sends zwlr_virtual_pointer_v1.axis_stop.
func (o *VirtualPointer) AxisStop(time uint32, axis uint32) {
	m := o.begin(6)
	m.uint(time)
	m.uint(axis)
	m.end()
}

// AxisDiscrete sends zwlr_virtual_pointer_v1.axis_discrete.
func (o *VirtualPointer) AxisDiscrete(time uint32, axis uint32, value float64, discrete int32) {
	m := o.begin(7)
	m.uint(time)
	m.uint(axis)
	m.fixed(value)
	m.int(discrete)
	m.end()
}

// Destroy sends zwlr_virtual_pointer_v1.destroy, and ends the object's life.
func (o *VirtualPointer) Destroy() {
	m := o.begin(8)
	o.retire()
	m.end()
}

func (o *VirtualPointer) dispatch(opcode uint16, a *args) {
	a.unknownEvent(opcode)
}

// OutputManager is zwlr_output_manager_v1, known up to version 2.
type OutputManager struct {
	object
	// On has the handlers of the object's events; nil ones are skipped. Set them before the object is made.
	On struct {
		Head     func(head *OutputHead)
		Done     func(serial uint32)
		Finished func()
	}
}

var interfaceOutputManager = Interface{Name: "zwlr_output_manager_v1", Version: 2, fds: []int{0, 0, 0}}

func (o *OutputManager) describe() *Interface { return &interfaceOutputManager }

// CreateConfiguration sends zwlr_output_manager_v1.create_configuration.
func (o *OutputManager) CreateConfiguration(id *OutputConfiguration, serial uint32) {
	m := o.begin(0)
	m.create(id, o.version)
	m.uint(serial)
	m.end()
}

// Stop sends zwlr_output_manager_v1.stop.
func (o *OutputManager) Stop() {
	m := o.begin(1)
	m.end()
}

func (o *OutputManager) dispatch(opcode uint16, a *args) {
	switch opcode {
	case 0: // head
		head := new(OutputHead)
		a.adopt(head, o.conn, o.version)
		if a.ok() && o.On.Head != nil {
			o.On.Head(head)
		}
	case 1: // done
		serial := a.uint()
		if a.ok() && o.On.Done != nil {
			o.On.Done(serial)
		}
	case 2: // finished
		if a.ok() && o.On.Finished != nil {
			o.On.Finished()
		}
	default:
		a.unknownEvent(opcode)
	}
}

// OutputHead is zwlr_output_head_v1, known up to version 2.
type OutputHead struct {
	object
	// On has the handlers of the object's events; nil ones are skipped. Set them before the object is made.
	On struct {
		Name         func(name string)
		Description  func(description string)
		PhysicalSize func(width int32, height int32)
		Mode         func(mode *OutputMode)
		Enabled      func(enabled int32)
		CurrentMode  func(mode *OutputMode)
		Position     func(x int32, y int32)
		Transform    func(transform int32)
		Scale        func(scale float64)
		Finished     func()
		// Make comes since version 2.
		Make func(make string)
		// Model comes since version 2.
		Model func(model string)
		// SerialNumber comes since version 2.
		SerialNumber func(serialNumber string)
	}
}

var interfaceOutputHead = Interface{Name: "zwlr_output_head_v1", Version: 2, fds: []int{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}}

func (o *OutputHead) describe() *Interface { return &interfaceOutputHead }

func (o *OutputHead) dispatch(opcode uint16, a *args) {
	switch opcode {
	case 0: // name
		name := a.string()
		if a.ok() && o.On.Name != nil {
			o.On.Name(name)
		}
	case 1: // description
		description := a.string()
		if a.ok() && o.On.Description != nil {
			o.On.Description(description)
		}
	case 2: // physical_size
		width := a.int()
		height := a.int()
		if a.ok() && o.On.PhysicalSize != nil {
			o.On.PhysicalSize(width, height)
		}
	case 3: // mode
		mode := new(OutputMode)
		a.adopt(mode, o.conn, o.version)
		if a.ok() && o.On.Mode != nil {
			o.On.Mode(mode)
		}
	case 4: // enabled
		enabled := a.int()
		if a.ok() && o.On.Enabled != nil {
			o.On.Enabled(enabled)
		}
	case 5: // current_mode
		mode, _ := o.conn.lookup(a.uint()).(*OutputMode)
		if a.ok() && o.On.CurrentMode != nil {
			o.On.CurrentMode(mode)
		}
	case 6: // position
		x := a.int()
		y := a.int()
		if a.ok() && o.On.Position != nil {
			o.On.Position(x, y)
		}
	case 7: // transform
		transform := a.int()
		if a.ok() && o.On.Transform != nil {
			o.On.Transform(transform)
		}
	case 8: // scale
		scale := a.fixed()
		if a.ok() && o.On.Scale != nil {
			o.On.Scale(scale)
		}
	case 9: // finished
		if a.ok() && o.On.Finished != nil {
			o.On.Finished()
		}
	case 10: // make
		make := a.string()
		if a.ok() && o.On.Make != nil {
			o.On.Make(make)
		}
	case 11: // model
		model := a.string()
		if a.ok() && o.On.Model != nil {
			o.On.Model(model)
		}
	case 12: // serial_number
		serialNumber := a.string()
		if a.ok() && o.On.SerialNumber != nil {
			o.On.SerialNumber(serialNumber)
		}
	default:
		a.unknownEvent(opcode)
	}
}

// OutputMode is zwlr_output_mode_v1, known up to version 2.
type OutputMode struct {
	object
	// On has the handlers of the object's events; nil ones are skipped. Set them before the object is made.
	On struct {
		Size      func(width int32, height int32)
		Refresh   func(refresh int32)
		Preferred func()
		Finished  func()
	}
}

var interfaceOutputMode = Interface{Name: "zwlr_output_mode_v1", Version: 2, fds: []int{0, 0, 0, 0}}

func (o *OutputMode) describe() *Interface { return &interfaceOutputMode }

func (o *OutputMode) dispatch(opcode uint16, a *args) {
	switch opcode {
	case 0: // size
		width := a.int()
		height := a.int()
		if a.ok() && o.On.Size != nil {
			o.On.Size(width, height)
		}
	case 1: // refresh
		refresh := a.int()
		if a.ok() && o.On.Refresh != nil {
			o.On.Refresh(refresh)
		}
	case 2: // preferred
		if a.ok() && o.On.Preferred != nil {
			o.On.Preferred()
		}
	case 3: // finished
		if a.ok() && o.On.Finished != nil {
			o.On.Finished()
		}
	default:
		a.unknownEvent(opcode)
	}
}

// OutputConfiguration is zwlr_output_configuration_v1, known up to version 2.
type OutputConfiguration struct {
	object
	// On has the handlers of the object's events; nil ones are skipped. Set them before the object is made.
	On struct {
		Succeeded func()
		Failed    func()
		Cancelled func()
	}
}

var interfaceOutputConfiguration = Interface{Name: "zwlr_output_configuration_v1", Version: 2, fds: []int{0, 0, 0}}

func (o *OutputConfiguration) describe() *Interface { return &interfaceOutputConfiguration }

// EnableHead sends zwlr_output_configuration_v1.enable_head.
func (o *OutputConfiguration) EnableHead(id *OutputConfigurationHead, head *OutputHead) {
	m := o.begin(0)
	m.create(id, o.version)
	m.uint(head.id)
	m.end()
}

// DisableHead sends zwlr_output_configuration_v1.disable_head.
func (o *OutputConfiguration) DisableHead(head *OutputHead) {
	m := o.begin(1)
	m.uint(head.id)
	m.end()
}

// Apply sends zwlr_output_configuration_v1.apply.
func (o *OutputConfiguration) Apply() {
	m := o.begin(2)
	m.end()
}

// Test sends zwlr_output_configuration_v1.test.
func (o *OutputConfiguration) Test() {
	m := o.begin(3)
	m.end()
}

// Destroy sends zwlr_output_configuration_v1.destroy, and ends the object's life.
func (o *OutputConfiguration) Destroy() {
	m := o.begin(4)
	o.retire()
	m.end()
}

func (o *OutputConfiguration) dispatch(opcode uint16, a *args) {
	switch opcode {
	case 0: // succeeded
		if a.ok() && o.On.Succeeded != nil {
			o.On.Succeeded()
		}
	case 1: // failed
		if a.ok() && o.On.Failed != nil {
			o.On.Failed()
		}
	case 2: // cancelled
		if a.ok() && o.On.Cancelled != nil {
			o.On.Cancelled()
		}
	default:
		a.unknownEvent(opcode)
	}
}

// OutputConfigurationHead is zwlr_output_configuration_head_v1, known up to version 2.
type OutputConfigurationHead struct {
	object
}

var interfaceOutputConfigurationHead = Interface{Name: "zwlr_output_configuration_head_v1", Version: 2, fds: []int{}}

func (o *OutputConfigurationHead) describe() *Interface { return &interfaceOutputConfigurationHead }

// SetMode sends zwlr_output_configuration_head_v1.set_mode.
func (o *OutputConfigurationHead) SetMode(mode *OutputMode) {
	m := o.begin(0)
	m.uint(mode.id)
	m.end()
}

// SetCustomMode sends zwlr_output_configuration_head_v1.set_custom_mode.
func (o *OutputConfigurationHead) SetCustomMode(width int32, height int32, refresh int32) {
	m := o.begin(1)
	m.int(width)
	m.int(height)
	m.int(refresh)
	m.end()
}

// SetPosition sends zwlr_output_configuration_head_v1.set_position.
func (o *OutputConfigurationHead) SetPosition(x int32, y int32) {
	m := o.begin(2)
	m.int(x)
	m.int(y)
	m.end()
}

// SetTransform sends zwlr_output_configuration_head_v1.set_transform.
func (o *OutputConfigurationHead) SetTransform(transform int32) {
	m := o.begin(3)
	m.int(transform)
	m.end()
}

// SetScale sends zwlr_output_configuration_head_v1.set_scale.
func (o *OutputConfigurationHead) SetScale(scale float64) {
	m := o.begin(4)
	m.fixed(scale)
	m.end()
}

func (o *OutputConfigurationHead) dispatch(opcode uint16, a *args) {
	a.unknownEvent(opcode)
}

// FakeInput is org_kde_kwin_fake_input, known up to version 4.
type FakeInput struct {
	object
}

var interfaceFakeInput = Interface{Name: "org_kde_kwin_fake_input", Version: 4, fds: []int{}}

func (o *FakeInput) describe() *Interface { return &interfaceFakeInput }

// Authenticate sends org_kde_kwin_fake_input.authenticate.
func (o *FakeInput) Authenticate(application string, reason string) {
	m := o.begin(0)
	m.string(application)
	m.string(reason)
	m.end()
}

// PointerMotion sends org_kde_kwin_fake_input.pointer_motion.
func (o *FakeInput) PointerMotion(deltaX float64, deltaY float64) {
	m := o.begin(1)
	m.fixed(deltaX)
	m.fixed(deltaY)
	m.end()
}

// Button sends org_kde_kwin_fake_input.button.
func (o *FakeInput) Button(button uint32, state uint32) {
	m := o.begin(2)
	m.uint(button)
	m.uint(state)
	m.end()
}

// Axis sends org_kde_kwin_fake_input.axis.
func (o *FakeInput) Axis(axis uint32, value float64) {
	m := o.begin(3)
	m.uint(axis)
	m.fixed(value)
	m.end()
}

// TouchDown sends org_kde_kwin_fake_input.touch_down, which exists since version 2.
func (o *FakeInput) TouchDown(id uint32, x float64, y float64) {
	m := o.begin(4)
	m.uint(id)
	m.fixed(x)
	m.fixed(y)
	m.end()
}

// TouchMotion sends org_kde_kwin_fake_input.touch_motion, which exists since version 2.
func (o *FakeInput) TouchMotion(id uint32, x float64, y float64) {
	m := o.begin(5)
	m.uint(id)
	m.fixed(x)
	m.fixed(y)
	m.end()
}

// TouchUp sends org_kde_kwin_fake_input.touch_up, which exists since version 2.
func (o *FakeInput) TouchUp(id uint32) {
	m := o.begin(6)
	m.uint(id)
	m.end()
}

// TouchCancel sends org_kde_kwin_fake_input.touch_cancel, which exists since version 2.
func (o *FakeInput) TouchCancel() {
	m := o.begin(7)
	m.end()
}

// TouchFrame sends org_kde_kwin_fake_input.touch_frame, which exists since version 2.
func (o *FakeInput) TouchFrame() {
	m := o.begin(8)
	m.end()
}

// PointerMotionAbsolute sends org_kde_kwin_fake_input.pointer_motion_absolute, which exists since version 3.
func (o *FakeInput) PointerMotionAbsolute(x float64, y float64) {
	m := o.begin(9)
	m.fixed(x)
	m.fixed(y)
	m.end()
}

// KeyboardKey sends org_kde_kwin_fake_input.keyboard_key, which exists since version 4.
func (o *FakeInput) KeyboardKey(button uint32, state uint32) {
	m := o.begin(10)
	m.uint(button)
	m.uint(state)
	m.end()
}

func (o *FakeInput) dispatch(opcode uint16, a *args) {
	a.unknownEvent(opcode)
}

// KdeScreencast is zkde_screencast_unstable_v1, known up to version 3.
type KdeScreencast struct {
	object
}

var interfaceKdeScreencast = Interface{Name: "zkde_screencast_unstable_v1", Version: 3, fds: []int{}}

func (o *KdeScreencast) describe() *Interface { return &interfaceKdeScreencast }

// StreamOutput sends zkde_screencast_unstable_v1.stream_output.
func (o *KdeScreencast) StreamOutput(stream *KdeScreencastStream, output *Output, pointer uint32) {
	m := o.begin(0)
	m.create(stream, o.version)
	m.uint(output.id)
	m.uint(pointer)
	m.end()
}

// StreamWindow sends zkde_screencast_unstable_v1.stream_window.
func (o *KdeScreencast) StreamWindow(stream *KdeScreencastStream, windowUuid string, pointer uint32) {
	m := o.begin(1)
	m.create(stream, o.version)
	m.string(windowUuid)
	m.uint(pointer)
	m.end()
}

// Destroy sends zkde_screencast_unstable_v1.destroy, and ends the object's life.
func (o *KdeScreencast) Destroy() {
	m := o.begin(2)
	o.retire()
	m.end()
}

// StreamVirtualOutput sends zkde_screencast_unstable_v1.stream_virtual_output, which exists since version 2.
func (o *KdeScreencast) StreamVirtualOutput(stream *KdeScreencastStream, name string, width int32, height int32, scale float64, pointer uint32) {
	m := o.begin(3)
	m.create(stream, o.version)
	m.string(name)
	m.int(width)
	m.int(height)
	m.fixed(scale)
	m.uint(pointer)
	m.end()
}

// StreamRegion sends zkde_screencast_unstable_v1.stream_region, which exists since version 3.
func (o *KdeScreencast) StreamRegion(stream *KdeScreencastStream, x int32, y int32, width uint32, height uint32, scale float64, pointer uint32) {
	m := o.begin(4)
	m.create(stream, o.version)
	m.int(x)
	m.int(y)
	m.uint(width)
	m.uint(height)
	m.fixed(scale)
	m.uint(pointer)
	m.end()
}

func (o *KdeScreencast) dispatch(opcode uint16, a *args) {
	a.unknownEvent(opcode)
}

// KdeScreencastStream is zkde_screencast_stream_unstable_v1, known up to version 3.
type KdeScreencastStream struct {
	object
	// On has the handlers of the object's events; nil ones are skipped. Set them before the object is made.
	On struct {
		Closed  func()
		Created func(node uint32)
		Failed  func(error string)
	}
}

var interfaceKdeScreencastStream = Interface{Name: "zkde_screencast_stream_unstable_v1", Version: 3, fds: []int{0, 0, 0}}

func (o *KdeScreencastStream) describe() *Interface { return &interfaceKdeScreencastStream }

// Close sends zkde_screencast_stream_unstable_v1.close, and ends the object's life.
func (o *KdeScreencastStream) Close() {
	m := o.begin(0)
	o.retire()
	m.end()
}

func (o *KdeScreencastStream) dispatch(opcode uint16, a *args) {
	switch opcode {
	case 0: // closed
		if a.ok() && o.On.Closed != nil {
			o.On.Closed()
		}
	case 1: // created
		node := a.uint()
		if a.ok() && o.On.Created != nil {
			o.On.Created(node)
		}
	case 2: // failed
		error := a.string()
		if a.ok() && o.On.Failed != nil {
			o.On.Failed(error)
		}
	default:
		a.unknownEvent(opcode)
	}
}

// PlasmaWindowManagement is org_kde_plasma_window_management, known up to version 16.
type PlasmaWindowManagement struct {
	object
	// On has the handlers of the object's events; nil ones are skipped. Set them before the object is made.
	On struct {
		ShowDesktopChanged func(state uint32)
		Window             func(id uint32)
		// StackingOrderChanged comes since version 11.
		StackingOrderChanged func(ids []byte)
		// StackingOrderUuidChanged comes since version 12.
		StackingOrderUuidChanged func(uuids string)
		// WindowWithUuid comes since version 13.
		WindowWithUuid func(id uint32, uuid string)
	}
}

var interfacePlasmaWindowManagement = Interface{Name: "org_kde_plasma_window_management", Version: 16, fds: []int{0, 0, 0, 0, 0}}

func (o *PlasmaWindowManagement) describe() *Interface { return &interfacePlasmaWindowManagement }

// ShowDesktop sends org_kde_plasma_window_management.show_desktop.
func (o *PlasmaWindowManagement) ShowDesktop(state uint32) {
	m := o.begin(0)
	m.uint(state)
	m.end()
}

// GetWindow sends org_kde_plasma_window_management.get_window.
func (o *PlasmaWindowManagement) GetWindow(id *PlasmaWindow, internalWindowId uint32) {
	m := o.begin(1)
	m.create(id, o.version)
	m.uint(internalWindowId)
	m.end()
}

// GetWindowByUuid sends org_kde_plasma_window_management.get_window_by_uuid, which exists since version 12.
func (o *PlasmaWindowManagement) GetWindowByUuid(id *PlasmaWindow, internalWindowUuid string) {
	m := o.begin(2)
	m.create(id, o.version)
	m.string(internalWindowUuid)
	m.end()
}

func (o *PlasmaWindowManagement) dispatch(opcode uint16, a *args) {
	switch opcode {
	case 0: // show_desktop_changed
		state := a.uint()
		if a.ok() && o.On.ShowDesktopChanged != nil {
			o.On.ShowDesktopChanged(state)
		}
	case 1: // window
		id := a.uint()
		if a.ok() && o.On.Window != nil {
			o.On.Window(id)
		}
	case 2: // stacking_order_changed
		ids := a.array()
		if a.ok() && o.On.StackingOrderChanged != nil {
			o.On.StackingOrderChanged(ids)
		}
	case 3: // stacking_order_uuid_changed
		uuids := a.string()
		if a.ok() && o.On.StackingOrderUuidChanged != nil {
			o.On.StackingOrderUuidChanged(uuids)
		}
	case 4: // window_with_uuid
		id := a.uint()
		uuid := a.string()
		if a.ok() && o.On.WindowWithUuid != nil {
			o.On.WindowWithUuid(id, uuid)
		}
	default:
		a.unknownEvent(opcode)
	}
}

// PlasmaWindow is org_kde_plasma_window, known up to version 16.
type PlasmaWindow struct {
	object
	// On has the handlers of the object's events; nil ones are skipped. Set them before the object is made.
	On struct {
		TitleChanged          func(title string)
		AppIdChanged          func(appId string)
		StateChanged          func(flags uint32)
		VirtualDesktopChanged func(number int32)
		ThemedIconNameChanged func(name string)
		Unmapped              func()
		// InitialState comes since version 4.
		InitialState func()
		// ParentWindow comes since version 5.
		ParentWindow func(parent *PlasmaWindow)
		// Geometry comes since version 6.
		Geometry func(x int32, y int32, width uint32, height uint32)
		// IconChanged comes since version 7.
		IconChanged func()
		PidChanged  func(pid uint32)
		// VirtualDesktopEntered comes since version 8.
		VirtualDesktopEntered func(id string)
		// VirtualDesktopLeft comes since version 8.
		VirtualDesktopLeft func(is string)
		// ApplicationMenu comes since version 10.
		ApplicationMenu func(serviceName string, objectPath string)
		// ActivityEntered comes since version 14.
		ActivityEntered func(id string)
		// ActivityLeft comes since version 14.
		ActivityLeft func(id string)
		// ResourceNameChanged comes since version 16.
		ResourceNameChanged func(resourceName string)
	}
}

var interfacePlasmaWindow = Interface{Name: "org_kde_plasma_window", Version: 16, fds: []int{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}}

func (o *PlasmaWindow) describe() *Interface { return &interfacePlasmaWindow }

// SetState sends org_kde_plasma_window.set_state.
func (o *PlasmaWindow) SetState(flags uint32, state uint32) {
	m := o.begin(0)
	m.uint(flags)
	m.uint(state)
	m.end()
}

// SetVirtualDesktop sends org_kde_plasma_window.set_virtual_desktop.
func (o *PlasmaWindow) SetVirtualDesktop(number uint32) {
	m := o.begin(1)
	m.uint(number)
	m.end()
}

// SetMinimizedGeometry sends org_kde_plasma_window.set_minimized_geometry.
func (o *PlasmaWindow) SetMinimizedGeometry(panel uint32, x uint32, y uint32, width uint32, height uint32) {
	m := o.begin(2)
	m.uint(panel)
	m.uint(x)
	m.uint(y)
	m.uint(width)
	m.uint(height)
	m.end()
}

// UnsetMinimizedGeometry sends org_kde_plasma_window.unset_minimized_geometry.
func (o *PlasmaWindow) UnsetMinimizedGeometry(panel uint32) {
	m := o.begin(3)
	m.uint(panel)
	m.end()
}

// Close sends org_kde_plasma_window.close.
func (o *PlasmaWindow) Close() {
	m := o.begin(4)
	m.end()
}

// RequestMove sends org_kde_plasma_window.request_move, which exists since version 3.
func (o *PlasmaWindow) RequestMove() {
	m := o.begin(5)
	m.end()
}

// RequestResize sends org_kde_plasma_window.request_resize, which exists since version 3.
func (o *PlasmaWindow) RequestResize() {
	m := o.begin(6)
	m.end()
}

// Destroy sends org_kde_plasma_window.destroy, which exists since version 4, and ends the object's life.
func (o *PlasmaWindow) Destroy() {
	m := o.begin(7)
	o.retire()
	m.end()
}

// GetIcon sends org_kde_plasma_window.get_icon, which exists since version 7.
func (o *PlasmaWindow) GetIcon(fd *os.File) {
	m := o.begin(8)
	m.fd(fd)
	m.end()
}

// RequestEnterVirtualDesktop sends org_kde_plasma_window.request_enter_virtual_desktop, which exists since version 8.
func (o *PlasmaWindow) RequestEnterVirtualDesktop(id string) {
	m := o.begin(9)
	m.string(id)
	m.end()
}

// RequestEnterNewVirtualDesktop sends org_kde_plasma_window.request_enter_new_virtual_desktop, which exists since version 8.
func (o *PlasmaWindow) RequestEnterNewVirtualDesktop() {
	m := o.begin(10)
	m.end()
}

// RequestLeaveVirtualDesktop sends org_kde_plasma_window.request_leave_virtual_desktop, which exists since version 8.
func (o *PlasmaWindow) RequestLeaveVirtualDesktop(id string) {
	m := o.begin(11)
	m.string(id)
	m.end()
}

// RequestEnterActivity sends org_kde_plasma_window.request_enter_activity, which exists since version 14.
func (o *PlasmaWindow) RequestEnterActivity(id string) {
	m := o.begin(12)
	m.string(id)
	m.end()
}

// RequestLeaveActivity sends org_kde_plasma_window.request_leave_activity, which exists since version 14.
func (o *PlasmaWindow) RequestLeaveActivity(id string) {
	m := o.begin(13)
	m.string(id)
	m.end()
}

// SendToOutput sends org_kde_plasma_window.send_to_output, which exists since version 15.
func (o *PlasmaWindow) SendToOutput(output *Output) {
	m := o.begin(14)
	m.uint(output.id)
	m.end()
}

func (o *PlasmaWindow) dispatch(opcode uint16, a *args) {
	switch opcode {
	case 0: // title_changed
		title := a.string()
		if a.ok() && o.On.TitleChanged != nil {
			o.On.TitleChanged(title)
		}
	case 1: // app_id_changed
		appId := a.string()
		if a.ok() && o.On.AppIdChanged != nil {
			o.On.AppIdChanged(appId)
		}
	case 2: // state_changed
		flags := a.uint()
		if a.ok() && o.On.StateChanged != nil {
			o.On.StateChanged(flags)
		}
	case 3: // virtual_desktop_changed
		number := a.int()
		if a.ok() && o.On.VirtualDesktopChanged != nil {
			o.On.VirtualDesktopChanged(number)
		}
	case 4: // themed_icon_name_changed
		name := a.string()
		if a.ok() && o.On.ThemedIconNameChanged != nil {
			o.On.ThemedIconNameChanged(name)
		}
	case 5: // unmapped
		if a.ok() && o.On.Unmapped != nil {
			o.On.Unmapped()
		}
	case 6: // initial_state
		if a.ok() && o.On.InitialState != nil {
			o.On.InitialState()
		}
	case 7: // parent_window
		parent, _ := o.conn.lookup(a.uint()).(*PlasmaWindow)
		if a.ok() && o.On.ParentWindow != nil {
			o.On.ParentWindow(parent)
		}
	case 8: // geometry
		x := a.int()
		y := a.int()
		width := a.uint()
		height := a.uint()
		if a.ok() && o.On.Geometry != nil {
			o.On.Geometry(x, y, width, height)
		}
	case 9: // icon_changed
		if a.ok() && o.On.IconChanged != nil {
			o.On.IconChanged()
		}
	case 10: // pid_changed
		pid := a.uint()
		if a.ok() && o.On.PidChanged != nil {
			o.On.PidChanged(pid)
		}
	case 11: // virtual_desktop_entered
		id := a.string()
		if a.ok() && o.On.VirtualDesktopEntered != nil {
			o.On.VirtualDesktopEntered(id)
		}
	case 12: // virtual_desktop_left
		is := a.string()
		if a.ok() && o.On.VirtualDesktopLeft != nil {
			o.On.VirtualDesktopLeft(is)
		}
	case 13: // application_menu
		serviceName := a.string()
		objectPath := a.string()
		if a.ok() && o.On.ApplicationMenu != nil {
			o.On.ApplicationMenu(serviceName, objectPath)
		}
	case 14: // activity_entered
		id := a.string()
		if a.ok() && o.On.ActivityEntered != nil {
			o.On.ActivityEntered(id)
		}
	case 15: // activity_left
		id := a.string()
		if a.ok() && o.On.ActivityLeft != nil {
			o.On.ActivityLeft(id)
		}
	case 16: // resource_name_changed
		resourceName := a.string()
		if a.ok() && o.On.ResourceNameChanged != nil {
			o.On.ResourceNameChanged(resourceName)
		}
	default:
		a.unknownEvent(opcode)
	}
}

// KdeOutputDevice is kde_output_device_v2, known up to version 2.
type KdeOutputDevice struct {
	object
	// On has the handlers of the object's events; nil ones are skipped. Set them before the object is made.
	On struct {
		Geometry     func(x int32, y int32, physicalWidth int32, physicalHeight int32, subpixel int32, make string, model string, transform int32)
		CurrentMode  func(mode *KdeOutputDeviceMode)
		Mode         func(mode *KdeOutputDeviceMode)
		Done         func()
		Scale        func(factor float64)
		Edid         func(raw string)
		Enabled      func(enabled int32)
		Uuid         func(uuid string)
		SerialNumber func(serialNumber string)
		EisaId       func(eisaId string)
		Capabilities func(flags uint32)
		Overscan     func(overscan uint32)
		VrrPolicy    func(vrrPolicy uint32)
		RgbRange     func(rgbRange uint32)
		// Name comes since version 2.
		Name func(name string)
	}
}

var interfaceKdeOutputDevice = Interface{Name: "kde_output_device_v2", Version: 2, fds: []int{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}}

func (o *KdeOutputDevice) describe() *Interface { return &interfaceKdeOutputDevice }

func (o *KdeOutputDevice) dispatch(opcode uint16, a *args) {
	switch opcode {
	case 0: // geometry
		x := a.int()
		y := a.int()
		physicalWidth := a.int()
		physicalHeight := a.int()
		subpixel := a.int()
		make := a.string()
		model := a.string()
		transform := a.int()
		if a.ok() && o.On.Geometry != nil {
			o.On.Geometry(x, y, physicalWidth, physicalHeight, subpixel, make, model, transform)
		}
	case 1: // current_mode
		mode, _ := o.conn.lookup(a.uint()).(*KdeOutputDeviceMode)
		if a.ok() && o.On.CurrentMode != nil {
			o.On.CurrentMode(mode)
		}
	case 2: // mode
		mode := new(KdeOutputDeviceMode)
		a.adopt(mode, o.conn, o.version)
		if a.ok() && o.On.Mode != nil {
			o.On.Mode(mode)
		}
	case 3: // done
		if a.ok() && o.On.Done != nil {
			o.On.Done()
		}
	case 4: // scale
		factor := a.fixed()
		if a.ok() && o.On.Scale != nil {
			o.On.Scale(factor)
		}
	case 5: // edid
		raw := a.string()
		if a.ok() && o.On.Edid != nil {
			o.On.Edid(raw)
		}
	case 6: // enabled
		enabled := a.int()
		if a.ok() && o.On.Enabled != nil {
			o.On.Enabled(enabled)
		}
	case 7: // uuid
		uuid := a.string()
		if a.ok() && o.On.Uuid != nil {
			o.On.Uuid(uuid)
		}
	case 8: // serial_number
		serialNumber := a.string()
		if a.ok() && o.On.SerialNumber != nil {
			o.On.SerialNumber(serialNumber)
		}
	case 9: // eisa_id
		eisaId := a.string()
		if a.ok() && o.On.EisaId != nil {
			o.On.EisaId(eisaId)
		}
	case 10: // capabilities
		flags := a.uint()
		if a.ok() && o.On.Capabilities != nil {
			o.On.Capabilities(flags)
		}
	case 11: // overscan
		overscan := a.uint()
		if a.ok() && o.On.Overscan != nil {
			o.On.Overscan(overscan)
		}
	case 12: // vrr_policy
		vrrPolicy := a.uint()
		if a.ok() && o.On.VrrPolicy != nil {
			o.On.VrrPolicy(vrrPolicy)
		}
	case 13: // rgb_range
		rgbRange := a.uint()
		if a.ok() && o.On.RgbRange != nil {
			o.On.RgbRange(rgbRange)
		}
	case 14: // name
		name := a.string()
		if a.ok() && o.On.Name != nil {
			o.On.Name(name)
		}
	default:
		a.unknownEvent(opcode)
	}
}

// KdeOutputDeviceMode is kde_output_device_mode_v2, known up to version 1.
type KdeOutputDeviceMode struct {
	object
	// On has the handlers of the object's events; nil ones are skipped. Set them before the object is made.
	On struct {
		Size      func(width int32, height int32)
		Refresh   func(refresh int32)
		Preferred func()
		Removed   func()
	}
}

var interfaceKdeOutputDeviceMode = Interface{Name: "kde_output_device_mode_v2", Version: 1, fds: []int{0, 0, 0, 0}}

func (o *KdeOutputDeviceMode) describe() *Interface { return &interfaceKdeOutputDeviceMode }

func (o *KdeOutputDeviceMode) dispatch(opcode uint16, a *args) {
	switch opcode {
	case 0: // size
		width := a.int()
		height := a.int()
		if a.ok() && o.On.Size != nil {
			o.On.Size(width, height)
		}
	case 1: // refresh
		refresh := a.int()
		if a.ok() && o.On.Refresh != nil {
			o.On.Refresh(refresh)
		}
	case 2: // preferred
		if a.ok() && o.On.Preferred != nil {
			o.On.Preferred()
		}
	case 3: // removed
		if a.ok() && o.On.Removed != nil {
			o.On.Removed()
		}
	default:
		a.unknownEvent(opcode)
	}
}

// KdeOutputManagement is kde_output_management_v2, known up to version 3.
type KdeOutputManagement struct {
	object
}

var interfaceKdeOutputManagement = Interface{Name: "kde_output_management_v2", Version: 3, fds: []int{}}

func (o *KdeOutputManagement) describe() *Interface { return &interfaceKdeOutputManagement }

// CreateConfiguration sends kde_output_management_v2.create_configuration.
func (o *KdeOutputManagement) CreateConfiguration(id *KdeOutputConfiguration) {
	m := o.begin(0)
	m.create(id, o.version)
	m.end()
}

func (o *KdeOutputManagement) dispatch(opcode uint16, a *args) {
	a.unknownEvent(opcode)
}

// KdeOutputConfiguration is kde_output_configuration_v2, known up to version 3.
type KdeOutputConfiguration struct {
	object
	// On has the handlers of the object's events; nil ones are skipped. Set them before the object is made.
	On struct {
		Applied func()
		Failed  func()
	}
}

var interfaceKdeOutputConfiguration = Interface{Name: "kde_output_configuration_v2", Version: 3, fds: []int{0, 0}}

func (o *KdeOutputConfiguration) describe() *Interface { return &interfaceKdeOutputConfiguration }

// Enable sends kde_output_configuration_v2.enable.
func (o *KdeOutputConfiguration) Enable(outputdevice *KdeOutputDevice, enable int32) {
	m := o.begin(0)
	m.uint(outputdevice.id)
	m.int(enable)
	m.end()
}

// Mode sends kde_output_configuration_v2.mode.
func (o *KdeOutputConfiguration) Mode(outputdevice *KdeOutputDevice, mode *KdeOutputDeviceMode) {
	m := o.begin(1)
	m.uint(outputdevice.id)
	m.uint(mode.id)
	m.end()
}

// Transform sends kde_output_configuration_v2.transform.
func (o *KdeOutputConfiguration) Transform(outputdevice *KdeOutputDevice, transform int32) {
	m := o.begin(2)
	m.uint(outputdevice.id)
	m.int(transform)
	m.end()
}

// Position sends kde_output_configuration_v2.position.
func (o *KdeOutputConfiguration) Position(outputdevice *KdeOutputDevice, x int32, y int32) {
	m := o.begin(3)
	m.uint(outputdevice.id)
	m.int(x)
	m.int(y)
	m.end()
}

// Scale sends kde_output_configuration_v2.scale.
func (o *KdeOutputConfiguration) Scale(outputdevice *KdeOutputDevice, scale float64) {
	m := o.begin(4)
	m.uint(outputdevice.id)
	m.fixed(scale)
	m.end()
}

// Apply sends kde_output_configuration_v2.apply.
func (o *KdeOutputConfiguration) Apply() {
	m := o.begin(5)
	m.end()
}

// Destroy sends kde_output_configuration_v2.destroy, and ends the object's life.
func (o *KdeOutputConfiguration) Destroy() {
	m := o.begin(6)
	o.retire()
	m.end()
}

// Overscan sends kde_output_configuration_v2.overscan.
func (o *KdeOutputConfiguration) Overscan(outputdevice *KdeOutputDevice, overscan uint32) {
	m := o.begin(7)
	m.uint(outputdevice.id)
	m.uint(overscan)
	m.end()
}

// SetVrrPolicy sends kde_output_configuration_v2.set_vrr_policy.
func (o *KdeOutputConfiguration) SetVrrPolicy(outputdevice *KdeOutputDevice, policy uint32) {
	m := o.begin(8)
	m.uint(outputdevice.id)
	m.uint(policy)
	m.end()
}

// SetRgbRange sends kde_output_configuration_v2.set_rgb_range.
func (o *KdeOutputConfiguration) SetRgbRange(outputdevice *KdeOutputDevice, rgbRange uint32) {
	m := o.begin(9)
	m.uint(outputdevice.id)
	m.uint(rgbRange)
	m.end()
}

// SetPrimaryOutput sends kde_output_configuration_v2.set_primary_output, which exists since version 2.
func (o *KdeOutputConfiguration) SetPrimaryOutput(output *KdeOutputDevice) {
	m := o.begin(10)
	m.uint(output.id)
	m.end()
}

// SetPriority sends kde_output_configuration_v2.set_priority, which exists since version 3.
func (o *KdeOutputConfiguration) SetPriority(outputdevice *KdeOutputDevice, priority uint32) {
	m := o.begin(11)
	m.uint(outputdevice.id)
	m.uint(priority)
	m.end()
}

func (o *KdeOutputConfiguration) dispatch(opcode uint16, a *args) {
	switch opcode {
	case 0: // applied
		if a.ok() && o.On.Applied != nil {
			o.On.Applied()
		}
	case 1: // failed
		if a.ok() && o.On.Failed != nil {
			o.On.Failed()
		}
	default:
		a.unknownEvent(opcode)
	}
}
