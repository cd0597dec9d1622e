package fingerprint

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pipeline"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/hostruntime/pluginhost"
)

// Config says what to look at.
type Config struct {
	// Binaries are the plugins, as pluginhost.Discover lists them.
	Binaries []pluginhost.Binary
	// Dirs is where they were looked for; a reason names them.
	Dirs []string
	// Order is the operator's. Plugins not named are looked at but not chosen.
	Order
	// Beside is the last result when sessions run beside this one; nil: nothing runs. See try.
	Beside *Result
	// Frames of each functional trial; 0: defaultFrames, negative: only look.
	Frames int
	// Width, Height and FPS of an encoder's trial; 0: 1280x720 at 60.
	Width, Height int
	FPS           float64
	// Joint runs the first capture and the first encoder together.
	Joint bool
	// Env is the environment of the desktop, where the plugins run; nil: ours.
	Env []string
	// Users says as whom the plugins run; nil: as we do.
	Users *pluginhost.Users
	// Launch starts a plugin; nil: pluginhost.Launch.
	Launch func(context.Context, pluginhost.Binary) (pipeline.Process, error)
	// Version of the host runtime, for the report.
	Version string
	Logger  *slog.Logger // nil: discard
}

func (c *Config) setDefaults() {
	if c.Frames == 0 {
		c.Frames = defaultFrames
	}
	if c.Width == 0 || c.Height == 0 {
		c.Width, c.Height = 1280, 720
	}
	if c.FPS == 0 {
		c.FPS = 60
	}
	if c.Env == nil {
		c.Env = os.Environ()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Launch == nil {
		c.Launch = c.launch
	}
}

func (c *Config) launch(ctx context.Context, b pluginhost.Binary) (pipeline.Process, error) {
	p, err := pluginhost.Launch(ctx, pluginhost.Spec{
		Path: b.Path, Role: b.Role, Env: pluginhost.Environ(b.Role, c.Env), Users: c.Users, Logger: c.Logger,
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Run takes the fingerprint. It takes seconds: plugins are tried one after the other, so that they do not spoil each other's
// latency. What does not work is in the Result; the error is ctx's.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	cfg.setDefaults()
	r := &Result{Time: time.Now().UTC(), Version: cfg.Version, Versions: map[string]string{}, Dirs: cfg.Dirs}
	if cfg.Beside == nil {
		newNode(cfg.Env, cfg.Users).check(ctx, r)
	} else {
		r.Checks, r.Versions = cfg.Beside.Checks, maps.Clone(cfg.Beside.Versions)
	}
	for _, b := range cfg.Binaries {
		p := cfg.try(ctx, b)
		r.Plugins = append(r.Plugins, p)
		r.addVersions(p)
	}
	r.Choose(cfg.Order)
	if cfg.Joint && len(r.Captures) > 0 && len(r.Encoders) > 0 {
		r.Joint = cfg.joint(ctx, r)
	}
	return r, ctx.Err()
}

// try tries one plugin. Beside running sessions nothing that was proven is tried again: a trial takes processor time and perhaps the
// last encoder of a GPU, and would fail for that reason alone. A capture plugin is not tried at all: some let in one client only,
// and some ask the person at the desktop.
func (c *Config) try(ctx context.Context, b pluginhost.Binary) Plugin {
	mark := markOf(b.Path)
	if c.Beside != nil {
		old := c.Beside.plugin(b.Role, b.Name)
		switch {
		case old != nil && old.mark == mark && (old.Verdict == OK || b.Role == pluginhost.RoleCapture):
			return *old
		case b.Role == pluginhost.RoleCapture:
			return Plugin{
				Name: b.Name, Role: b.Role, Path: b.Path, Verdict: Fail, mark: mark,
				Reason: "its file is new, and a session has the desktop", Remedy: "it is tried when the session is over",
			}
		}
	}
	p := c.probe(ctx, b)
	p.mark = mark
	return p
}

// probe runs one plugin's functional probe.
func (c *Config) probe(ctx context.Context, b pluginhost.Binary) Plugin {
	p := Plugin{Name: b.Name, Role: b.Role, Path: b.Path, Verdict: Fail}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	proc, err := c.Launch(ctx, b)
	if err != nil {
		p.Reason, p.Remedy = explain(err)
		return p
	}
	defer proc.Kill()
	request := &pluginpb.ProbeRequest{
		Frames: uint32(max(0, c.Frames)), Size: &pluginpb.Size{Width: uint32(c.Width), Height: uint32(c.Height)}, Fps: c.FPS,
	}
	var report *pluginpb.ProbeReport
	if b.Role == pluginhost.RoleCapture {
		report, err = proc.Capture().Probe(ctx, request)
	} else {
		report, err = proc.Encoder().Probe(ctx, request)
	}
	if err != nil {
		p.Reason, p.Remedy = explain(err)
		return p
	}
	p.conclude(report, c.Frames > 0)
	return p
}

// explain splits an error into what and what to do.
func explain(err error) (reason, remedy string) {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Sprintf("no answer within %v", probeTimeout), "see what it waits for with WAVRY_LOG_LEVEL=debug; a wedged portal or PipeWire is the usual cause: restart it"
	}
	var launch *pluginhost.LaunchError
	if errors.As(err, &launch) {
		return launch.Reason, launch.Remedy
	}
	return reasonRemedy(err)
}

// conclude turns the plugin's report into methods and a verdict.
func (p *Plugin) conclude(report *pluginpb.ProbeReport, functional bool) {
	usable := []string{}
	for _, i := range report.Items {
		m := method(p.Role, i, functional)
		p.Methods = append(p.Methods, m)
		if m.Verdict == OK {
			usable = append(usable, m.Name)
		}
	}
	switch {
	case len(usable) > 0:
		p.Verdict, p.Reason = OK, "works by "+strings.Join(usable, ", ")
	case len(p.Methods) == 0:
		p.Reason, p.Remedy = "reports no method at all", "install the plugins of the same release as the wavry binary"
	default:
		p.Reason, p.Remedy = p.Methods[0].Reason, p.Methods[0].Remedy
	}
}

// method does not take a plugin's word: usable without proof is not usable. Nor is an encoder without H.264, which is what sessions
// ask for and every viewer decodes: some drivers are built without it.
func method(role pluginhost.Role, i *pluginpb.ProbeItem, functional bool) Method {
	m := Method{Name: i.Method, Verdict: Fail, Reason: i.Reason, Remedy: i.Remedy, Frames: i.Frames, Distinct: i.Distinct,
		P50: i.LatencyP50Ms, P95: i.LatencyP95Ms, Codecs: slices.Clone(i.Codecs), Details: i.Details}
	switch {
	case !i.Usable:
	case functional && i.Frames == 0:
		m.Reason, m.Remedy = "claims to work, but produced no picture", "use another method, and report this as a bug of the plugin"
	case role == pluginhost.RoleEncode && !slices.Contains(i.Codecs, media.CodecH264.String()):
		m.Reason, m.Remedy = fmt.Sprintf("encodes %s only, and sessions are H.264", strings.Join(i.Codecs, ", ")), "install a driver with H.264, or prefer another encoder"
	default:
		m.Verdict = OK
	}
	return m
}

// addVersions collects what a lock file can pin.
func (r *Result) addVersions(p Plugin) {
	for _, m := range p.Methods {
		for key, value := range m.Details {
			if versionKeys[key] {
				r.Versions[p.Name+"/"+m.Name+"/"+key] = value
			}
		}
	}
}

// versionKeys are the details of probes that are versions, not facts of the moment.
var versionKeys = map[string]bool{
	"gstreamer": true, "x264": true, "openh264": true, "driver": true, "driver_version": true, "kwin": true, "screencast": true,
	"remote_desktop": true, "portal": true, "pipewire": true, "version": true,
}
