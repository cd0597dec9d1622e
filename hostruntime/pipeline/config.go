package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/hostruntime/pluginhost"
)

// Process is a running plugin, as *pluginhost.Process is one.
type Process interface {
	Capture() pluginapi.Capturer
	Encoder() pluginapi.Encoder
	// Hand gives it its end of a frame source's connection.
	Hand(*os.File) error
	Exited() <-chan struct{}
	Err() error
	Kill()
}

var _ Process = (*pluginhost.Process)(nil)

// Candidate is a plugin worth trying.
type Candidate struct {
	Name string // "capture-wayland": shown to people and in metrics
	Path string // of the binary
	// Role is set by New.
	Role pluginhost.Role
	// Methods in order of preference; empty: the plugin's own order.
	Methods []string
	Options map[string]string
}

// Config of a Pipeline.
type Config struct {
	// Captures and Encoders in order of preference, at least one each.
	Captures, Encoders []Candidate
	// Launch starts a candidate's process; nil: pluginhost.Launch with Users.
	Launch func(context.Context, Candidate) (Process, error)
	// Users says as whom the plugins run, nil: as we do.
	Users *pluginhost.Users
	// Env is the environment of the desktop, of which plugins get what pluginhost.Environ leaves; nil: ours.
	Env []string
	// TempDir is where the plugins' private directories are made; empty: the system's.
	TempDir string

	Codec        media.Codec // 0: H.264
	Bitrate      int         // bits per second at the start; 0: defaultBitrate
	FPS          float64     // upper limit at the start; 0: defaultFPS
	KeepaliveFPS float64     // lowest rate; 0: defaultKeepalive
	// Width and Height wished for the output; 0: leave it.
	Width, Height int
	// EmbedCursor asks for the pointer in the picture instead of beside it.
	EmbedCursor bool
	// Display names the display whose restore token is kept in StateDir (0700).
	Display, StateDir string

	Logger  *slog.Logger
	Metrics *Metrics // nil: not shown
}

// Rates at the start, until the session adjusts them: what a common home connection carries.
const (
	defaultBitrate   = 8_000_000
	defaultFPS       = 60
	defaultKeepalive = 2
)

func (c *Config) setDefaults() {
	if c.Codec == 0 {
		c.Codec = media.CodecH264
	}
	if c.Bitrate == 0 {
		c.Bitrate = defaultBitrate
	}
	if c.FPS == 0 {
		c.FPS = defaultFPS
	}
	if c.KeepaliveFPS == 0 {
		c.KeepaliveFPS = defaultKeepalive
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(nil)
	}
	if c.Launch == nil {
		c.Launch = c.launch
	}
	c.Captures, c.Encoders = withRole(c.Captures, pluginhost.RoleCapture), withRole(c.Encoders, pluginhost.RoleEncode)
}

func (c *Config) validate() error {
	var problems []error
	if len(c.Captures) == 0 {
		problems = append(problems, errors.New("pipeline: no capture plugin; run `wavry host doctor` to see why none is usable"))
	}
	if len(c.Encoders) == 0 {
		problems = append(problems, errors.New("pipeline: no encoder plugin; run `wavry host doctor` to see why none is usable"))
	}
	if c.Bitrate < 0 || c.FPS < 0 || c.KeepaliveFPS < 0 || c.Width < 0 || c.Height < 0 {
		problems = append(problems, fmt.Errorf("pipeline: negative setting: bitrate %d, fps %g, keep-alive %g, size %dx%d",
			c.Bitrate, c.FPS, c.KeepaliveFPS, c.Width, c.Height))
	}
	return errors.Join(problems...)
}

func (c *Config) launch(ctx context.Context, candidate Candidate) (Process, error) {
	p, err := pluginhost.Launch(ctx, pluginhost.Spec{
		Path: candidate.Path, Role: candidate.Role, Env: pluginhost.Environ(candidate.Role, c.Env), Users: c.Users,
		TempDir: c.TempDir, Logger: c.Logger,
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

func withRole(list []Candidate, role pluginhost.Role) []Candidate {
	list = slices.Clone(list)
	for i := range list {
		list[i].Role = role
	}
	return list
}

func names(list []Candidate) []string {
	out := make([]string, len(list))
	for i, c := range list {
		out[i] = c.Name
	}
	return out
}
