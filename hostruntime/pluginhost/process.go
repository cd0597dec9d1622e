package pluginhost

import (
	"errors"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-plugin"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
)

// Process is a running plugin. All methods may be called from any goroutine.
type Process struct {
	// Set once.
	spec   Spec
	dir    *TempDir
	log    *logWriter
	client *plugin.Client
	runner *runner
	inbox  *net.UnixConn // our end: what is sent there reaches the plugin
	conn   *grpc.ClientConn

	killOnce sync.Once
}

// newProcess takes dir and inbox over.
func newProcess(spec Spec, dir *TempDir, inbox *net.UnixConn) *Process {
	log := spec.Logger.With("backend", Backend(spec.Path))
	return &Process{spec: spec, dir: dir, inbox: inbox, log: newLogWriter(log, time.Now), runner: newRunner()}
}

// Backend is the binary's name.
func (p *Process) Backend() string { return Backend(p.spec.Path) }

// PID of the process, as long as it lives.
func (p *Process) PID() int {
	p.runner.mu.Lock()
	defer p.runner.mu.Unlock()
	return p.runner.pid
}

// Capture speaks to a capture plugin. Errors are *pluginapi.UnavailableError, *PluginExitedError, ErrRole or gRPC's.
func (p *Process) Capture() pluginapi.Capturer {
	return &captureClient{p: p, c: pluginpb.NewCaptureClient(p.conn)}
}

// Encoder speaks to an encoder plugin. Errors are as for Capture.
func (p *Process) Encoder() pluginapi.Encoder {
	return &encodeClient{p: p, c: pluginpb.NewEncoderClient(p.conn)}
}

// Exited is closed when the process is gone.
func (p *Process) Exited() <-chan struct{} { return p.runner.exited }

// Err is a *PluginExitedError once Exited is closed, nil before.
func (p *Process) Err() error {
	select {
	case <-p.runner.exited:
		return p.exitedError()
	default:
		return nil
	}
}

func (p *Process) exitedError() error {
	return &PluginExitedError{Backend: p.Backend(), Status: p.runner.state(), Tail: p.log.Tail()}
}

// Kill ends the process and everything it started, SIGTERM first, and removes its directory. It returns when all is gone, within
// StopGrace and a moment. It may be called more than once. Call the plugin's Stop before, where it should leave in order.
func (p *Process) Kill() {
	p.killOnce.Do(func() {
		p.end()
		p.client.Kill() // closes the connection and waits for go-plugin's goroutines
		if err := errors.Join(p.inbox.Close(), p.dir.Remove()); err != nil {
			p.spec.Logger.Warn("plugin's private directory stays behind", "backend", p.Backend(), "err", err)
		}
	})
}

// end returns when the process is reaped, or at once when none was started.
func (p *Process) end() {
	if p.runner.ID() == "" {
		return
	}
	_ = p.runner.signal(unix.SIGTERM) // the only error is that it is gone
	grace := time.NewTimer(p.spec.StopGrace)
	defer grace.Stop()
	select {
	case <-p.runner.exited:
		return
	case <-grace.C:
	}
	_ = p.runner.signal(unix.SIGKILL)
	<-p.runner.exited
}
