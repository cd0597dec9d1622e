package encodetest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/wavry/fleet/hostruntime/pluginapi/framesource"
	"github.com/wavry/fleet/plugins/internal/portal"
)

// PipeWire is a private PipeWire with a session manager and one video source.
type PipeWire struct {
	Node uint32

	dir     string
	running []*exec.Cmd
}

// pipewireStart is how long its parts may take to appear.
const pipewireStart = 20 * time.Second

// StartPipeWire starts it in dir, which only its owner may enter. The source is what gst-launch-1.0 understands and a shell leaves alone.
func StartPipeWire(ctx context.Context, dir, source string) (*PipeWire, error) {
	for tool, pkg := range map[string]string{"pipewire": "pipewire", "wireplumber": "wireplumber", "pw-dump": "pipewire-bin",
		"dbus-run-session": "dbus-daemon", "gst-launch-1.0": "gstreamer1.0-tools"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("%s is missing: install %s", tool, pkg)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, pipewireStart)
	defer cancel()
	p := &PipeWire{dir: dir}
	if err := p.start(ctx, source); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

func (p *PipeWire) start(ctx context.Context, source string) error {
	if err := p.spawn("pipewire"); err != nil {
		return err
	}
	if err := await(ctx, "socket", func() bool { _, err := os.Stat(p.socket()); return err == nil }); err != nil {
		return err
	}
	if err := p.spawn("dbus-run-session", "--", "wireplumber"); err != nil {
		return err
	}
	if err := p.spawn("sh", "-c", "exec gst-launch-1.0 -q "+source+
		` ! pipewiresink mode=provide stream-properties="p,media.class=Video/Source,node.name=`+nodeName+`"`); err != nil {
		return err
	}
	return await(ctx, "node", p.findNode)
}

const nodeName = "wavry-test"

func (p *PipeWire) socket() string { return portal.PipeWireIn(p.dir).Socket }

// Command is a program that finds this PipeWire.
func (p *PipeWire) Command(name string, args ...string) *exec.Cmd {
	c := exec.Command(name, args...)
	c.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+p.dir, "HOME="+p.dir)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return c
}

func (p *PipeWire) spawn(name string, args ...string) error {
	c := p.Command(name, args...)
	if err := c.Start(); err != nil {
		return err
	}
	p.running = append(p.running, c)
	return nil
}

// Close ends all of it.
func (p *PipeWire) Close() {
	for _, c := range p.running {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // the group that spawn made
		_ = c.Wait()
	}
	p.running = nil
}

func await(ctx context.Context, what string, ok func() bool) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("PipeWire: no %s: %w", what, ctx.Err())
		}
	}
	return nil
}

func (p *PipeWire) findNode() bool {
	out, err := p.Command("pw-dump").Output()
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
		if o.Type == "PipeWire:Interface:Node" && o.Info.Props["node.name"] == nodeName {
			p.Node = o.ID
			return true
		}
	}
	return false
}

// Open makes a new connection, as the portal would, for an encoder.
func (p *PipeWire) Open() (framesource.Node, error) {
	remote, err := portal.PipeWireIn(p.dir).Open()
	return framesource.Node{Remote: remote, ID: p.Node}, err
}
