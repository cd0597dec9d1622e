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
	"github.com/wavry/fleet/hostruntime/pluginapi/inbox"
	"github.com/wavry/fleet/hostruntime/pluginhost/pluginbox"
)

// Spec says what to start and how.
type Spec struct {
	// Path of the binary.
	Path string
	// Role decides which box it gets; empty: known from the binary's name.
	Role Role
	// Env is the plugin's whole environment; nil: what Environ leaves of ours. Variables of the handshake and of private directories
	// are added.
	Env []string
	// Users says as whom it runs; nil: as we do. Another user needs root.
	Users *Users
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
	box, err := spec.box()
	if err != nil {
		return nil, err
	}
	p, theirs, err := spec.prepare()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	p.client = plugin.NewClient(p.clientConfig(box, theirs))
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
	if s.Role == "" {
		s.Role = roleOf(Backend(s.Path))
	}
	if s.Env == nil {
		s.Env = Environ(s.Role, nil)
	}
	return s
}

// box is what the plugin may do, as far as it is known before it has a directory.
func (s Spec) box() (pluginbox.Spec, error) {
	user, err := s.Users.of(s.Role).box(s.Role)
	if err != nil {
		return pluginbox.Spec{}, s.fail(ErrCredential, err.Error(), "run `wavry host` as root, or let the plugin run as the same user")
	}
	b := pluginbox.Spec{Kind: pluginbox.Kind(s.Role), Path: s.Path, User: user, Parent: os.Getpid()}
	if s.Role == RoleEncode {
		b.Readable = readable(s.Env)
	}
	return b, nil
}

// prepare makes what a process needs. theirs is the plugin's end of its inbox.
func (s Spec) prepare() (p *Process, theirs *os.File, err error) {
	fail := func(err error) error {
		return s.fail(ErrTempDir, err.Error(), "point TMPDIR to a short path that is writable")
	}
	dir, err := NewTempDir(s.TempDir, s.Users.of(s.Role))
	if err != nil {
		return nil, nil, fail(err)
	}
	ours, theirs, err := inbox.Pair(unix.SOCK_SEQPACKET)
	if err != nil {
		return nil, nil, errors.Join(fail(err), dir.Remove())
	}
	c, err := inbox.Conn(ours)
	if err != nil {
		return nil, nil, errors.Join(fail(err), theirs.Close(), dir.Remove())
	}
	return newProcess(s, dir, c), theirs, nil
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
	case s.Role == "":
		return s.fail(ErrRole, "its name says neither capture nor encode", "name it wavry-capture-... or wavry-encode-...")
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

func (p *Process) clientConfig(box pluginbox.Spec, inbox *os.File) *plugin.ClientConfig {
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
			grpc.WithContextDialer(p.dial),
			grpc.WithInitialWindowSize(window),
			grpc.WithInitialConnWindowSize(window),
			grpc.WithReadBufferSize(ioBuffer),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		},
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, _ string) (goplugin.Runner, error) {
			return p.makeRunner(cmd.Env, box, inbox)
		},
	}
}

// makeRunner gets the variables of the handshake.
func (p *Process) makeRunner(handshake []string, box pluginbox.Spec, inbox *os.File) (*runner, error) {
	work := p.dir.Work
	env := slices.Concat(p.spec.Env, handshake, []string{"TMPDIR=" + work, "PWD=" + work, plugin.EnvUnixSocketDir + "=" + work})
	box.Dir = work // where nobody else reads what it leaves, and all of it goes away
	if p.spec.Role == RoleEncode {
		cache, err := p.spec.Users.cacheDir()
		if err != nil {
			return nil, err
		}
		if cache == "" {
			cache = work
		}
		box.Writable = []string{work, cache}
		// A scan of GStreamer's plugins by a helper process is not possible: a plugin makes none.
		env = append(env, "HOME="+work, "XDG_CACHE_HOME="+cache, "XDG_RUNTIME_DIR="+work, "GST_REGISTRY_FORK=no")
	}
	path, args, err := box.Command()
	if err != nil {
		return nil, err
	}
	p.runner.name = p.spec.Path
	p.runner.cmd = &exec.Cmd{
		Path: path, Args: args, Env: env, ExtraFiles: []*os.File{inbox},
		// A session of its own has no terminal, and a group.
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Pdeathsig: unix.SIGKILL},
	}
	return p.runner, nil
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
	boxed := (*pluginbox.StepError)(nil)
	fields := strings.Split(line, "|")
	install := fmt.Sprintf("install the plugins of the same release as the wavry binary (protocol version %d)", pluginapi.ProtocolVersion)
	switch {
	case errors.As(p.runner.startErr, &boxed) && boxed.Step == pluginbox.StepExec:
		return p.spec.fail(ErrNotExecutable, boxed.Error(), "install the binary built for this machine, executable for the plugin's user, in a file system that is not mounted noexec")
	case boxed != nil && boxed.Step == pluginbox.StepDir:
		return p.spec.fail(ErrTempDir, boxed.Error(), "point TMPDIR to a directory through which the plugin's user may pass (chmod o+x)")
	case boxed != nil:
		return p.spec.fail(ErrBox, boxed.Error(), "plugins need Linux 5.11 or newer, with seccomp filters, and are not started without them; look for a container's policy that forbids this step")
	case p.runner.startErr != nil:
		return p.spec.fail(ErrNotExecutable, p.runner.startErr.Error(), "see whether /proc is mounted and the wavry binary executable")
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
