package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"golang.org/x/sys/unix"

	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/internal/capture"
	"github.com/wavry/fleet/plugins/internal/wayland"
)

// wlrMethod captures wlroots compositors by copying an output (wlr-screencopy) and plays virtual input devices. It needs no portal and
// no human.
type wlrMethod struct {
	session session
	log     *slog.Logger
}

func wlrMethods(s session, log *slog.Logger) []capture.Method {
	return []capture.Method{wlrMethod{s, log}}
}

func (wlrMethod) Name() string { return "wlr-screencopy" }

// Open implements capture.Method. It has taken one picture when it returns.
func (m wlrMethod) Open(ctx context.Context, r *pluginpb.StartCaptureRequest) (capture.Source, error) {
	options, err := readWlrOptions(r)
	if err != nil {
		return nil, err
	}
	if options.fallback = m.session.Layouts; checkLayouts(options.fallback) != nil {
		m.log.Warn("keyboard layout of the session is not used", "cause", checkLayouts(options.fallback))
		options.fallback = ""
	}
	d, err := m.connect(ctx, options.output)
	if err != nil {
		return nil, err
	}
	s, err := newWlrSource(ctx, d, options, m.log)
	if err != nil {
		return nil, errors.Join(explainWlr(err), d.close())
	}
	return s, nil
}

func (m wlrMethod) connect(ctx context.Context, output string) (*wlrDesktop, error) {
	address, err := wayland.Address(m.session.Display, m.session.RuntimeDir)
	if err != nil {
		return nil, &pluginapi.UnavailableError{
			Reason: err.Error(), Remedy: "start the host runtime inside the desktop's session, or set both in its environment",
		}
	}
	conn, err := wayland.Dial(ctx, address)
	if err != nil {
		return nil, explainWlr(err)
	}
	d, err := newWlrDesktop(ctx, conn, output)
	if err != nil {
		return nil, errors.Join(explainWlr(err), conn.Close())
	}
	return d, nil
}

// errCompositorSilent is why a capture ends whose compositor is connected and does not answer.
var errCompositorSilent = fmt.Errorf("compositor did not answer for %v", pingTimeout)

// explainWlr adds what to do to the errors an operator can act on.
func explainWlr(err error) error {
	if err == nil {
		return nil
	}
	var missing *wayland.MissingGlobalError
	remedy := ""
	switch {
	case errors.As(err, &missing):
		remedy = "this method is for wlroots compositors (sway, labwc, river, Hyprland); others are captured through their portal"
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ECONNREFUSED):
		remedy = "no compositor listens there: start it, or correct WAYLAND_DISPLAY"
	case errors.Is(err, fs.ErrPermission):
		remedy = "run the host runtime as the user who owns the desktop session"
	case errors.Is(err, errCompositorSilent), errors.Is(err, wayland.ErrCompositorHung):
		remedy = "it hangs or is stopped: look at its log, and restart the desktop session"
	case errors.Is(err, wayland.ErrCompositorGone):
		remedy = "look at the compositor's log; the host runtime retries"
	default:
		return err
	}
	return &pluginapi.UnavailableError{Reason: err.Error(), Remedy: remedy}
}

// wlrOptions are what a request says to this method.
type wlrOptions struct {
	fps         float64
	keepAlive   float64 // lowest rate, by repeated pictures; 0: none are repeated
	size        capture.Size
	scale       float64 // of the output; 0: leave
	embedCursor bool
	output      string // name; empty: the first
	memory      string // shm, dmabuf or auto
	layout      string // xkb layouts "de" or with a variant "de(nodeadkeys)"; empty: the seat's own
	fallback    string // layouts of a seat that has none
}

// Options of StartCaptureRequest that this method knows.
const (
	optionOutput = "output"
	optionMemory = "memory"
	optionLayout = "xkb_layout"
)

func readWlrOptions(r *pluginpb.StartCaptureRequest) (wlrOptions, error) {
	o := wlrOptions{
		fps: r.Fps, keepAlive: r.KeepaliveFps, size: capture.SizeOf(r.Size), scale: r.Size.GetScale(),
		// There is no cursor metadata in wlr-screencopy: without embedding there would be no cursor at all.
		embedCursor: true,
		output:      r.Options[optionOutput], memory: r.Options[optionMemory], layout: r.Options[optionLayout],
	}
	switch o.memory {
	case "":
		o.memory = memoryShm
	case memoryShm, memoryDMABuf, memoryAuto:
	default:
		return o, fmt.Errorf("option memory = %q is none of shm, dmabuf, auto", o.memory)
	}
	if err := checkLayouts(o.layout); err != nil {
		return o, fmt.Errorf("option %s: %w", optionLayout, err)
	}
	return o, nil
}
