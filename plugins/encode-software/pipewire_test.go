//go:build integration

package main

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/framesource"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/internal/encode"
)

// pipewire is a private PipeWire with a session manager and one video source.
type pipewire struct {
	t    *testing.T
	dir  string
	node uint32
}

func startPipeWire(t *testing.T, source string) *pipewire {
	t.Helper()
	for tool, pkg := range map[string]string{"pipewire": "pipewire", "wireplumber": "wireplumber", "pw-dump": "pipewire-bin",
		"dbus-run-session": "dbus-daemon", "gst-launch-1.0": "gstreamer1.0-tools"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is missing: install %s", tool, pkg)
		}
	}
	p := &pipewire{t: t, dir: t.TempDir()}
	if err := os.Chmod(p.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	p.spawn("pipewire")
	p.await("socket", func() bool { _, err := os.Stat(filepath.Join(p.dir, "pipewire-0")); return err == nil })
	p.spawn("dbus-run-session", "--", "wireplumber")
	p.spawn("sh", "-c", "exec gst-launch-1.0 -q "+source+
		` ! pipewiresink mode=provide stream-properties="p,media.class=Video/Source,node.name=wavry-test"`)
	p.await("node", p.findNode)
	return p
}

func (p *pipewire) command(name string, args ...string) *exec.Cmd {
	c := exec.Command(name, args...)
	c.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+p.dir, "HOME="+p.dir)
	return c
}

func (p *pipewire) spawn(name string, args ...string) {
	p.t.Helper()
	c := p.command(name, args...)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // the group this test made
		_ = c.Wait()
	})
}

func (p *pipewire) await(what string, ok func() bool) {
	p.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			p.t.Fatalf("PipeWire: no %s", what)
		}
	}
}

func (p *pipewire) findNode() bool {
	out, err := p.command("pw-dump").Output()
	if err != nil {
		return false
	}
	var objects []struct {
		ID   uint32
		Type string
		Info struct {
			Props map[string]any
		}
	}
	if json.Unmarshal(out, &objects) != nil {
		return false
	}
	for _, o := range objects {
		if o.Type == "PipeWire:Interface:Node" && o.Info.Props["node.name"] == "wavry-test" {
			p.node = o.ID
			return true
		}
	}
	return false
}

// remote is a descriptor of a new connection, as the portal would give it.
func (p *pipewire) remote() (*os.File, error) {
	c, err := net.Dial("unix", filepath.Join(p.dir, "pipewire-0"))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.(*net.UnixConn).File()
}

// Pictures of a PipeWire node come out as access units, with the time at which PipeWire's source made them, and go on when the node is
// reached by another connection.
func TestPipeWireNode(t *testing.T) {
	pw := startPipeWire(t, "videotestsrc is-live=true pattern=ball ! video/x-raw,format=BGRx,width=1280,height=720,framerate=30/1")
	path := filepath.Join(t.TempDir(), "frames")
	l, err := framesource.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	sinks := make(chan *framesource.Sink, 1)
	go func() {
		s, err := l.AcceptPipeWire(func() (framesource.Node, error) {
			remote, err := pw.remote()
			return framesource.Node{Remote: remote, ID: pw.node}, err
		})
		if err != nil {
			t.Error(err)
		}
		sinks <- s
	}()
	r := &rig{t: t, plugin: encode.New(encode.Config{Name: "test", Methods: methods()})}
	_, err = r.plugin.Start(t.Context(), &pluginpb.StartEncodeRequest{SourcePath: path, Codec: "h264", BitsPerSecond: 6e6, Fps: 60})
	if err != nil {
		t.Fatal(err)
	}
	sink := <-sinks
	r.watch()
	var last media.Time
	for i := range 90 {
		if i == 60 {
			remote, err := pw.remote()
			if err == nil {
				err = sink.Replace(framesource.Node{Remote: remote, ID: pw.node})
			}
			if err != nil {
				t.Fatal(err)
			}
			_ = remote.Close()
		}
		u := r.unit()
		if u.Keyframe != (i == 0) || u.Width != 1280 || u.Height != 720 {
			t.Fatalf("unit %d: key %v %dx%d", i, u.Keyframe, u.Width, u.Height)
		}
		if handoff := media.Time(u.HandoffTime).Sub(media.Time(u.CaptureTime)); handoff < 0 || handoff > time.Second || media.Time(u.CaptureTime) <= last {
			t.Fatalf("unit %d: capture %d after %d, hand-off %v", i, u.CaptureTime, last, handoff)
		}
		last = media.Time(u.CaptureTime)
		if i%20 == 5 {
			t.Logf("handoff %v encode %v", time.Duration(u.HandoffTime-u.CaptureTime), time.Duration(u.EncodeTime-u.HandoffTime))
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := r.plugin.Stop(ctx); err != nil {
		t.Error(err)
	}
	r.stop()
	<-r.watched
	select {
	case <-sink.Done():
	case <-time.After(patience):
		t.Error("the encoder did not leave")
	}
}
