package encode

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/hostruntime/pluginapi/framesource"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/internal/gstpipe"
)

// Config is what an encoder plugin is made of.
type Config struct {
	// Name of the plugin for logs.
	Name string
	// Methods in the plugin's own order of preference.
	Methods []Method
	// Logger may be nil.
	Logger *slog.Logger
}

// Plugin implements pluginapi.Encoder.
type Plugin struct {
	cfg Config
	log *slog.Logger

	mu     sync.Mutex // guards the following
	run    *run
	cancel context.CancelFunc
}

var _ pluginapi.Encoder = (*Plugin)(nil)

// New makes a plugin that has opened nothing.
func New(cfg Config) *Plugin {
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Plugin{cfg: cfg, log: log.With("component", cfg.Name)}
}

// Start implements pluginapi.Encoder.
func (p *Plugin) Start(ctx context.Context, req *pluginpb.StartEncodeRequest) (*pluginpb.EncodeStarted, error) {
	s, err := checkStart(req)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.run != nil {
		return nil, ErrStarted
	}
	m, text, reason, err := p.choose(s.codec, req, s)
	if err != nil {
		return nil, err
	}
	s.method = m
	in, err := p.connect(ctx, req.SourcePath, m, s.codec)
	if err != nil {
		return nil, err
	}
	runCtx, cancel := context.WithCancel(context.Background()) // ends with Stop or the process
	p.run, p.cancel = newRun(p.log, in, s), cancel
	go p.run.loop(runCtx) // Stop waits for it
	p.log.Info("encoding started", "backend", m.Name, "cause", reason)
	return &pluginpb.EncodeStarted{Method: m.Name, Reason: reason, Pipeline: text, Details: details(m, s.codec)}, nil
}

// checkStart collects everything that is wrong with a request.
func checkStart(req *pluginpb.StartEncodeRequest) (settings, error) {
	s := settings{bps: req.BitsPerSecond, fps: req.Fps, keepalive: req.KeepaliveFps, options: req.Options}
	var problems []error
	codec, err := media.ParseCodec(req.Codec)
	if err != nil || codec == media.CodecOpus {
		problems = append(problems, fmt.Errorf("codec %q is none of h264, hevc, av1", req.Codec))
	}
	s.codec = codec
	if req.SourcePath == "" {
		problems = append(problems, errors.New("source_path is empty"))
	}
	if err := checkFramerate(s.fps); err != nil {
		problems = append(problems, err)
	}
	if !(s.keepalive >= 0 && s.keepalive <= MaxFramerate) {
		problems = append(problems, fmt.Errorf("keepalive_fps %v is outside 0..%v", s.keepalive, MaxFramerate))
	}
	if err := checkBitrate(s.bps); err != nil {
		problems = append(problems, err)
	}
	return s, errors.Join(problems...)
}

func checkFramerate(fps float64) error {
	if math.IsNaN(fps) || fps < 1 || fps > MaxFramerate {
		return fmt.Errorf("fps %v is outside 1..%v", fps, MaxFramerate)
	}
	return nil
}

func checkBitrate(bps uint32) error {
	if bps < MinBitrate || bps > MaxBitrate {
		return fmt.Errorf("bits_per_second %d is outside %d..%d", bps, MinBitrate, MaxBitrate)
	}
	return nil
}

// choose takes the first method whose elements are there and link, and says why it and not the ones before.
func (p *Plugin) choose(codec media.Codec, req *pluginpb.StartEncodeRequest, s settings) (*Method, string, string, error) {
	candidates, err := order(p.cfg.Methods, req.Methods)
	if err != nil {
		return nil, "", "", err
	}
	var refused []string
	var last error
	for _, m := range candidates {
		text, err := m.trial(codec, s)
		if err == nil {
			return m, text, because(m, codec, refused), nil
		}
		last = err
		refused = append(refused, fmt.Sprintf("%s: %v", m.Name, err))
	}
	return nil, "", "", noMethod(codec, refused, last)
}

func because(m *Method, codec media.Codec, refused []string) string {
	reason := fmt.Sprintf("%s is the first method that can encode %v here", m.Name, codec)
	if len(refused) > 0 {
		reason += " (" + strings.Join(refused, "; ") + ")"
	}
	return reason
}

func noMethod(codec media.Codec, refused []string, last error) error {
	u := &pluginapi.UnavailableError{Reason: fmt.Sprintf("no method can encode %v: %s", codec, strings.Join(refused, "; "))}
	var cause *pluginapi.UnavailableError
	if errors.As(last, &cause) {
		u.Remedy = cause.Remedy
	}
	return u
}

// trial builds the method's pipeline for a common picture without running it.
func (m *Method) trial(codec media.Codec, s settings) (string, error) {
	if !m.has(codec) {
		return "", &pluginapi.UnavailableError{Reason: fmt.Sprintf("it does not encode %v", codec), Remedy: "ask for another codec"}
	}
	if u := m.Available(codec); u != nil {
		return "", u
	}
	if err := m.checkOptions(s.options); err != nil {
		return "", err
	}
	layout := packed(1280, 720)
	p, err := gstpipe.Build("trial", m.chain(Input{Codec: codec, Layout: layout, FPS: s.fps, BitsPerSecond: s.bps, Options: s.options}))
	if err != nil {
		return "", m.explain(codec, err)
	}
	defer p.Close()
	return p.String(), nil
}

// packed is the layout of a BGRx picture without padding.
func packed(width, height int) media.Layout {
	return media.Layout{Width: width, Height: height, Format: media.FormatXRGB8888, Planes: []media.Plane{{Stride: 4 * width}}}
}

func (p *Plugin) connect(ctx context.Context, path string, m *Method, codec media.Codec) (intake, error) {
	source, err := framesource.Dial(ctx, path)
	if err != nil {
		return nil, err
	}
	if source.Kind() == framesource.KindPipeWire {
		if u := Require("pipewiresrc"); u != nil {
			_ = source.Close()
			return nil, u
		}
		return newPipeWireIntake(source, m.rawCaps(codec)), nil
	}
	return newFrameIntake(source)
}

func details(m *Method, codec media.Codec) map[string]string {
	out := map[string]string{"gstreamer": gstpipe.RuntimeVersion().String()}
	if m.Details != nil {
		for k, v := range m.Details(codec) {
			out[k] = v
		}
	}
	return out
}

// Watch implements pluginapi.Encoder.
func (p *Plugin) Watch(ctx context.Context, emit func(*pluginpb.EncodeEvent) error) error {
	r, err := p.running()
	if err != nil {
		return err
	}
	return r.watch(ctx, emit)
}

// SetBitrate implements pluginapi.Encoder.
func (p *Plugin) SetBitrate(ctx context.Context, bitsPerSecond uint32) error {
	if err := checkBitrate(bitsPerSecond); err != nil {
		return err
	}
	return p.do(ctx, func(r *run) error { return r.setBitrate(bitsPerSecond) })
}

// SetFramerate implements pluginapi.Encoder.
func (p *Plugin) SetFramerate(ctx context.Context, fps float64) error {
	if err := checkFramerate(fps); err != nil {
		return err
	}
	return p.do(ctx, func(r *run) error { return r.setFramerate(fps) })
}

// RequestKeyframe implements pluginapi.Encoder.
func (p *Plugin) RequestKeyframe(ctx context.Context) error {
	return p.do(ctx, func(r *run) error {
		r.plan.key = true
		return nil
	})
}

// Stop implements pluginapi.Encoder.
func (p *Plugin) Stop(ctx context.Context) error {
	p.mu.Lock()
	r, cancel := p.run, p.cancel
	p.mu.Unlock()
	if r == nil {
		return nil
	}
	cancel()
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop the encoder: %w", ctx.Err())
	}
}

func (p *Plugin) do(ctx context.Context, f func(*run) error) error {
	r, err := p.running()
	if err != nil {
		return err
	}
	return r.do(ctx, func() error { return f(r) })
}

func (p *Plugin) running() (*run, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.run == nil {
		return nil, ErrNotStarted
	}
	return p.run, nil
}

// Probe implements pluginapi.Encoder.
func (p *Plugin) Probe(ctx context.Context, req *pluginpb.ProbeRequest) (*pluginpb.ProbeReport, error) {
	var wanted []string
	if req.Method != "" {
		wanted = []string{req.Method}
	}
	candidates, err := order(p.cfg.Methods, wanted)
	if err != nil {
		return nil, err
	}
	trial, err := checkProbe(req)
	if err != nil {
		return nil, err
	}
	report := &pluginpb.ProbeReport{}
	for _, m := range candidates {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		report.Items = append(report.Items, trial.probe(ctx, m))
	}
	return report, nil
}
