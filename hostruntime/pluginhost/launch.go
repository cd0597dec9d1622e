package pluginhost

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	goplugin "github.com/hashicorp/go-plugin/runner"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/wavry/fleet/hostruntime/pluginapi"
)

// Spec says what to start and how.
type Spec struct {
	// Path of the binary.
	Path string
	// Env is the plugin's whole environment; nil: ours. Variables of the handshake are added.
	Env []string
	// Credential is the user to run as; nil: ours. Another user needs root.
	Credential *Credential
	// SHA256 of the binary; nil: not checked. It guards against a wrong binary, not against one who can write to it.
	SHA256 []byte
	// StartTimeout bounds exec to handshake; 0: defaultStartTimeout.
	StartTimeout time.Duration
	// StopGrace is the time between SIGTERM and SIGKILL; 0: defaultStopGrace.
	StopGrace time.Duration
	// TempDir is where the private directory is made; empty: the system's. At most maxTempPath bytes.
	TempDir string
	// Logger gets the plugin's stderr at debug; nil: discarded.
	Logger *slog.Logger
}

// Launch starts a plugin and returns when its handshake is done. Errors are *LaunchError, or ctx's.
func Launch(ctx context.Context, spec Spec) (*Process, error) {
	spec = spec.withDefaults()
	if err := spec.check(); err != nil {
		return nil, err
	}
	credential, err := spec.Credential.system()
	if err != nil {
		return nil, spec.fail(ErrCredential, err.Error(), "run `wavry host` as root, or let the plugin run as the same user")
	}
	dir, err := NewTempDir(spec.TempDir, spec.Credential)
	if err != nil {
		return nil, spec.fail(ErrTempDir, err.Error(), "point TMPDIR to a short path that is writable")
	}
	p := newProcess(spec, dir)
	p.client = plugin.NewClient(p.clientConfig(credential))
	if err := p.connect(ctx); err != nil {
		p.Kill()
		return nil, p.explain(ctx, err)
	}
	return p, nil
}

func (s Spec) withDefaults() Spec {
	if s.StartTimeout == 0 {
		s.StartTimeout = defaultStartTimeout
	}
	if s.StopGrace == 0 {
		s.StopGrace = defaultStopGrace
	}
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	if s.Env == nil {
		s.Env = os.Environ()
	}
	return s
}

func (s Spec) fail(kind error, reason, remedy string) error {
	return &LaunchError{Path: s.Path, Kind: kind, Reason: reason, Remedy: remedy}
}

// check finds what is wrong before anything is started.
func (s Spec) check() error {
	info, err := os.Stat(s.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s.fail(ErrMissing, "no such file", "build it with `make build`, install the release's plugins beside the wavry binary, or set -plugin-dir")
	case err != nil:
		return s.fail(ErrNotExecutable, err.Error(), "make the file and its directories readable for the host runtime's user")
	case !info.Mode().IsRegular():
		return s.fail(ErrNotExecutable, "it is no regular file", "point to the plugin binary itself")
	case info.Mode()&0o111 == 0:
		return s.fail(ErrNotExecutable, fmt.Sprintf("mode %v has no execute bit", info.Mode()), "chmod 0755 "+s.Path)
	}
	return s.checkSum()
}

func (s Spec) checkSum() error {
	if s.SHA256 == nil {
		return nil
	}
	f, err := os.Open(s.Path)
	if err != nil {
		return s.fail(ErrNotExecutable, err.Error(), "make the file readable for the host runtime's user")
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return s.fail(ErrNotExecutable, err.Error(), "make the file readable for the host runtime's user")
	}
	if sum := h.Sum(nil); subtle.ConstantTimeCompare(sum, s.SHA256) != 1 {
		return s.fail(ErrChecksum, fmt.Sprintf("SHA-256 is %x, expected %x", sum, s.SHA256),
			"install the plugin of the same release as the wavry binary, or correct the expected checksum")
	}
	return nil
}

func (p *Process) clientConfig(credential *syscall.Credential) *plugin.ClientConfig {
	return &plugin.ClientConfig{
		HandshakeConfig:  pluginapi.Handshake,
		Plugins:          plugin.PluginSet{pluginapi.CaptureName: &pluginapi.CapturePlugin{}, pluginapi.EncodeName: &pluginapi.EncodePlugin{}},
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		AutoMTLS:         true,
		SkipHostEnv:      true,                              // Env is complete
		StartTimeout:     p.spec.StartTimeout + time.Second, // connect's own comes first
		Logger:           hclog.NewNullLogger(),             // stderr reaches slog through Stderr below
		Stderr:           p.log,
		SyncStdout:       p.log,
		SyncStderr:       p.log,
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: p.dir.Path},
		GRPCDialOptions: []grpc.DialOption{
			grpc.WithInitialWindowSize(window),
			grpc.WithInitialConnWindowSize(window),
			grpc.WithReadBufferSize(ioBuffer),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		},
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, socketDir string) (goplugin.Runner, error) {
			if err := own(socketDir, p.spec.Credential); err != nil {
				return nil, err
			}
			return p.makeRunner(cmd.Env, credential), nil
		},
	}
}

// makeRunner gets the variables of the handshake.
func (p *Process) makeRunner(handshake []string, credential *syscall.Credential) *runner {
	cmd := &exec.Cmd{
		Path: p.spec.Path,
		Args: []string{p.spec.Path},
		Env:  slices.Concat(p.spec.Env, []string{"TMPDIR=" + p.dir.Path}, handshake),
		Dir:  p.dir.Path, // a core dump goes away with the rest
		SysProcAttr: &syscall.SysProcAttr{
			Setpgid:    true,
			Pdeathsig:  unix.SIGKILL,
			Credential: credential,
		},
	}
	p.runner.cmd = cmd
	return p.runner
}

func (p *Process) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, p.spec.StartTimeout)
	defer cancel()
	// go-plugin's start takes no context: ending the process ends it.
	stop := context.AfterFunc(ctx, p.runner.abort)
	defer stop()
	protocol, err := p.client.Client()
	if err != nil {
		return err
	}
	p.conn = protocol.(*plugin.GRPCClient).Conn
	return ctx.Err()
}

// explain turns go-plugin's error into a LaunchError. The process is gone by now.
func (p *Process) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("start plugin %s: %w", p.spec.Path, ctx.Err())
	}
	line, tail := p.runner.head.firstLine(), p.log.Tail()
	fields := strings.Split(line, "|")
	install := fmt.Sprintf("install the plugins of the same release as the wavry binary (protocol version %d)", pluginapi.ProtocolVersion)
	switch {
	case errors.Is(err, unix.ENOEXEC), errors.Is(err, unix.EACCES), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EPERM):
		return p.spec.fail(ErrNotExecutable, err.Error(), "install the binary built for this machine, in a directory its user may enter and that is not mounted noexec")
	case len(fields) >= 5 && fields[1] != strconv.Itoa(pluginapi.ProtocolVersion):
		return p.spec.fail(ErrVersion, fmt.Sprintf("it speaks protocol version %s, this host runtime %d", fields[1], pluginapi.ProtocolVersion), install)
	case strings.Contains(tail, "error while loading shared libraries"):
		return p.spec.fail(ErrNotExecutable, tail, "install the package with that library; `wavry host doctor` lists what is missing")
	case line != "" && len(fields) < 5:
		return p.spec.fail(ErrNotPlugin, fmt.Sprintf("it answered %q instead of a handshake", line), install)
	case line == "" && p.runner.wasAborted():
		return p.spec.fail(ErrTimeout, fmt.Sprintf("no handshake within %v%s", p.spec.StartTimeout, said(tail)), "see what it waits for with WAVRY_LOG_LEVEL=debug; "+install)
	case line == "":
		return p.spec.fail(ErrNotPlugin, fmt.Sprintf("it ended (%v) without a handshake%s", p.runner.state(), said(tail)), install)
	}
	return p.spec.fail(ErrNotPlugin, err.Error()+said(tail), install)
}

func said(tail string) string {
	if tail == "" {
		return ""
	}
	return " and said: " + tail
}

// Backend is a binary's name without directory: the word for it in logs and metrics.
func Backend(path string) string { return filepath.Base(path) }
