package main

import (
	"sync"

	"github.com/wavry/fleet/plugins/internal/wayland"
)

// minWindowManagement has window_with_uuid: windows are streamed by uuid.
const minWindowManagement = 13

// The states of org_kde_plasma_window that matter here.
const (
	windowActive     = 1 << 0
	windowMinimized  = 1 << 1
	windowMaximized  = 1 << 2
	windowFullscreen = 1 << 3
)

// kwinWindows follows the windows of a KWin session.
type kwinWindows struct {
	manager wayland.PlasmaWindowManagement

	mu  sync.Mutex // guards all
	all map[string]*kwinWindow
}

// kwinWindow is one window. Its fields are guarded by kwinWindows.mu.
type kwinWindow struct {
	object wayland.PlasmaWindow
	uuid   string
	title  string
	state  uint32
	place  rect
}

// bindKWinWindows returns nil where KWin does not tell this program of windows.
func bindKWinWindows(c *wayland.Conn) *kwinWindows {
	w := &kwinWindows{all: map[string]*kwinWindow{}}
	w.manager.On.WindowWithUuid = func(_ uint32, uuid string) { w.add(uuid) }
	if c.Bind(&w.manager, minWindowManagement) != nil {
		return nil
	}
	return w
}

func (w *kwinWindows) add(uuid string) {
	n := &kwinWindow{uuid: uuid}
	locked := func(f func()) { w.mu.Lock(); defer w.mu.Unlock(); f() }
	n.object.On.TitleChanged = func(title string) { locked(func() { n.title = title }) }
	n.object.On.StateChanged = func(flags uint32) { locked(func() { n.state = flags }) }
	n.object.On.Geometry = func(x, y int32, width, height uint32) {
		locked(func() { n.place = rect{int(x), int(y), int(width), int(height)} })
	}
	n.object.On.Unmapped = func() {
		locked(func() { delete(w.all, uuid) })
		n.object.Destroy()
	}
	locked(func() { w.all[uuid] = n })
	w.manager.GetWindowByUuid(&n.object, uuid)
}

// seen is a window's state at one moment.
type seen struct {
	uuid, title string
	state       uint32
	place       rect
}

// list returns the windows that are not minimized.
func (w *kwinWindows) list() []seen {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []seen
	for _, n := range w.all {
		if n.state&windowMinimized == 0 {
			list = append(list, seen{n.uuid, n.title, n.state, n.place})
		}
	}
	return list
}

// place returns where a window is now; ok is false when it is gone.
func (w *kwinWindows) place(uuid string) (r rect, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.all[uuid]
	if n == nil {
		return rect{}, false
	}
	return n.place, true
}

// chooseWindow returns the window that shows most of what a person at this output would see: the active one among those that fill it,
// else any that fills it.
func chooseWindow(windows []seen, output rect) (seen, bool) {
	var best seen
	found := false
	for _, w := range windows {
		if !fills(w, output) {
			continue
		}
		if !found || score(w) > score(best) || (score(w) == score(best) && w.uuid < best.uuid) {
			best, found = w, true
		}
	}
	return best, found
}

// fills says whether a window is full-screen or maximised, or as large as if it were: a panel takes at most a tenth.
func fills(w seen, output rect) bool {
	if w.state&(windowFullscreen|windowMaximized) != 0 {
		return true
	}
	return w.place.Width*10 >= output.Width*9 && w.place.Height*10 >= output.Height*9
}

func score(w seen) int {
	n := 0
	for flag, points := range map[uint32]int{windowActive: 4, windowFullscreen: 2, windowMaximized: 1} {
		if w.state&flag != 0 {
			n += points
		}
	}
	return n
}
