package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/internal/capture"
	"github.com/wavry/fleet/plugins/internal/portal"
)

const (
	screenshotIface = "org.kde.KWin.ScreenShot2"
	screenshotPath  = "/org/kde/KWin/ScreenShot2"
)

// kwinShot captures by asking KWin for one screenshot after the other. It shows the whole desktop with its cursor wherever KWin
// runs, costs KWin a read-back per picture (35 ms for 720p without a GPU) and is therefore the last resort.
type kwinShot struct {
	session session
	log     *slog.Logger
}

// Name implements capture.Method.
func (m *kwinShot) Name() string { return "kwin-screenshot" }

// Probe implements capture.Method.
func (m *kwinShot) Probe(ctx context.Context, frames int) *pluginpb.ProbeItem {
	d, err := openKWin(ctx, m.session)
	if err != nil {
		return asItem(err)
	}
	defer d.close()
	version, err := screenshotVersion(ctx, d.bus)
	if err != nil {
		return asItem(err)
	}
	item := &pluginpb.ProbeItem{Usable: true, Reason: shotReason(version, d), Details: map[string]string{"screenshot2": fmt.Sprint(version)}}
	if frames == 0 {
		return item
	}
	if err := tryShots(ctx, d, frames, item); err != nil {
		return asItem(err)
	}
	return item
}

func tryShots(ctx context.Context, d *kwinDesktop, frames int, item *pluginpb.ProbeItem) error {
	s, err := newShooter(ctx, d.bus)
	if err != nil {
		return err
	}
	b, err := capture.NewSharedBuffer(s.layout)
	if err != nil {
		return err
	}
	if nudge := d.nudge(); nudge != nil {
		defer nudging(nudge)()
	}
	trial := capture.NewTrial()
	for trial.Frames() < frames && err == nil {
		asked := media.Now()
		if err = s.shoot(ctx, b); err == nil {
			trial.Add(b.Data, b.Layout, media.Now().Sub(asked))
		}
	}
	reason := item.Reason
	trial.Fill(item)
	if item.Usable {
		item.Reason = reason
	}
	item.Details["size"] = fmt.Sprintf("%dx%d", s.layout.Width, s.layout.Height)
	return errors.Join(err, b.Gone())
}

func shotReason(version uint32, d *kwinDesktop) string {
	return fmt.Sprintf("KWin takes screenshots by org.kde.KWin.ScreenShot2 version %d, polled, %s", version, d.inputNote())
}

func screenshotVersion(ctx context.Context, bus *portal.Bus) (uint32, error) {
	var version uint32
	err := bus.Property(ctx, kwinService, screenshotPath, screenshotIface, "Version", &version)
	if portal.Missing(err) {
		return 0, unavailable("KWin does not offer org.kde.KWin.ScreenShot2", "use KWin 5.24 or later with its screenshot effect")
	}
	return version, err
}

// Open implements capture.Method.
func (m *kwinShot) Open(ctx context.Context, r *pluginpb.StartCaptureRequest) (capture.Source, error) {
	d, err := openKWin(ctx, m.session)
	if err != nil {
		return nil, err
	}
	s, err := newShotSource(ctx, d, r)
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	return s, nil
}

// shooter takes screenshots of one size.
type shooter struct {
	bus    *portal.Bus
	layout media.Layout
}

// errShotSize says that the workspace is not the size that the buffers have.
var errShotSize = errors.New("the workspace changed its size")

// newShooter takes one screenshot to learn the size.
func newShooter(ctx context.Context, bus *portal.Bus) (*shooter, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	defer r.Close() // KWin's writing ends with EPIPE
	s := &shooter{bus: bus}
	s.layout, err = s.ask(ctx, w)
	return s, err
}

// ask makes KWin write a picture to w and returns what it writes, before it has.
func (s *shooter) ask(ctx context.Context, w *os.File) (media.Layout, error) {
	options := map[string]dbus.Variant{"include-cursor": dbus.MakeVariant(true), "native-resolution": dbus.MakeVariant(true)}
	var results map[string]dbus.Variant
	err := s.bus.Object(kwinService, screenshotPath).
		CallWithContext(ctx, screenshotIface+".CaptureWorkspace", 0, options, dbus.UnixFD(w.Fd())).Store(&results)
	var refused dbus.Error
	switch {
	case errors.As(err, &refused) && refused.Name == screenshotIface+".Error.NoAuthorized":
		return media.Layout{}, unavailable("KWin does not let this program take screenshots",
			"start KWin with KWIN_SCREENSHOT_NO_PERMISSION_CHECKS=1 (wavry desktop run kde does)")
	case err != nil:
		return media.Layout{}, fmt.Errorf("ask KWin for a screenshot: %w", err)
	}
	return readShot(results)
}

// readShot turns KWin's description of a raw picture into a layout. Formats are QImage's.
func readShot(results map[string]dbus.Variant) (media.Layout, error) {
	const rgb32, argb32, argb32Premultiplied = 4, 5, 6
	number := func(key string) int {
		n, _ := results[key].Value().(uint32)
		return int(n)
	}
	format := number("format")
	if kind, _ := results["type"].Value().(string); kind != "raw" || format < rgb32 || format > argb32Premultiplied {
		return media.Layout{}, fmt.Errorf("screenshot has type %q and format %d, which we cannot read", kind, format)
	}
	return media.Layout{
		Width: number("width"), Height: number("height"), Format: media.FormatXRGB8888,
		Planes: []media.Plane{{Stride: number("stride")}},
	}, nil
}

// shoot fills b with a picture of the workspace. KWin writes into b's memory itself, behind the D-Bus reply; the file offset that
// the descriptors share tells how far it is.
func (s *shooter) shoot(ctx context.Context, b *capture.Buffer) error {
	fd := int(b.File.Fd())
	if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
		return fmt.Errorf("rewind buffer: %w", err)
	}
	layout, err := s.ask(ctx, b.File)
	if err != nil {
		return err
	}
	if layout.Width != s.layout.Width || layout.Height != s.layout.Height || layout.Planes[0] != s.layout.Planes[0] {
		return errShotSize
	}
	return awaitOffset(ctx, fd, int64(layout.Planes[0].Stride*layout.Height))
}

func awaitOffset(ctx context.Context, fd int, end int64) error {
	tick := time.NewTicker(shotPoll)
	defer tick.Stop()
	for {
		at, err := unix.Seek(fd, 0, unix.SEEK_CUR)
		if err != nil {
			return fmt.Errorf("look how far KWin has written: %w", err)
		}
		if at >= end {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("KWin wrote %d of %d bytes of a screenshot: %w", at, end, ctx.Err())
		}
	}
}
