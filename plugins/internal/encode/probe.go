package encode

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/internal/encode/bitstream"
	"github.com/wavry/fleet/plugins/internal/gstpipe"
)

// trial is a probe's request, checked.
type trial struct {
	frames        int
	width, height int
	fps           float64
}

// probeBitrate is a middling rate for the trial: quality does not matter, but an encoder must not starve.
const probeBitrate = 8_000_000

func checkProbe(req *pluginpb.ProbeRequest) (trial, error) {
	t := trial{frames: int(req.Frames), width: 1280, height: 720, fps: 60}
	if s := req.Size; s != nil && (s.Width != 0 || s.Height != 0) {
		t.width, t.height = int(s.Width), int(s.Height)
	}
	if req.Fps != 0 {
		t.fps = req.Fps
	}
	var problems []error
	if req.Frames > maxProbeFrames {
		problems = append(problems, fmt.Errorf("frames %d is outside 0..%d", req.Frames, maxProbeFrames))
	}
	if t.width < 16 || t.height < 16 || t.width > 8192 || t.height > 8192 {
		problems = append(problems, fmt.Errorf("size %dx%d is outside 16..8192", t.width, t.height))
	}
	if err := checkFramerate(t.fps); err != nil {
		problems = append(problems, err)
	}
	return t, errors.Join(problems...)
}

// probe tries every codec of the method; the item's numbers are those of the first that works.
func (t trial) probe(ctx context.Context, m *Method) *pluginpb.ProbeItem {
	item := &pluginpb.ProbeItem{Method: m.Name, Details: map[string]string{"gstreamer": gstpipe.RuntimeVersion().String()}}
	var refused []error
	for _, codec := range m.Codecs {
		got, err := t.probeCodec(ctx, m, codec)
		if err != nil {
			refused = append(refused, err)
			item.Details["refused_"+codec.String()] = err.Error()
			continue
		}
		if len(item.Codecs) == 0 {
			got.fill(item)
		}
		item.Codecs = append(item.Codecs, codec.String())
		for k, v := range got.details {
			item.Details[k] = v
		}
	}
	conclude(item, refused, t.frames)
	return item
}

func conclude(item *pluginpb.ProbeItem, refused []error, frames int) {
	item.Usable = len(item.Codecs) > 0
	switch {
	case item.Usable && frames > 0:
		item.Reason = fmt.Sprintf("encoded %d distinct pictures", item.Distinct)
	case item.Usable:
		item.Reason = "its elements are there; nothing was encoded"
	case len(refused) > 0:
		item.Reason, item.Remedy = refused[0].Error(), "use another encoder plugin"
		var u *pluginapi.UnavailableError
		if errors.As(refused[0], &u) {
			item.Reason, item.Remedy = u.Reason, u.Remedy
		}
	}
}

// measured is what a functional trial found.
type measured struct {
	frames, distinct int
	p50, p95         time.Duration
	details          map[string]string
}

func (g *measured) fill(item *pluginpb.ProbeItem) {
	item.Frames, item.Distinct = uint32(g.frames), uint32(g.distinct)
	item.LatencyP50Ms, item.LatencyP95Ms = g.p50.Seconds()*1e3, g.p95.Seconds()*1e3
}

func (t trial) probeCodec(ctx context.Context, m *Method, codec media.Codec) (measured, error) {
	if u := m.Available(codec); u != nil {
		return measured{}, u
	}
	got := measured{details: details(m, codec)}
	if t.frames == 0 {
		_, err := m.trial(codec, settings{fps: t.fps, bps: probeBitrate})
		return got, err
	}
	units, latencies, err := t.encode(ctx, m, codec)
	if err != nil {
		return measured{}, err
	}
	if err := got.check(codec, units, t); err != nil {
		return measured{}, fmt.Errorf("%s encodes %v, but %w", m.Name, codec, err)
	}
	got.p50, got.p95 = percentile(latencies, 50), percentile(latencies, 95)
	return got, nil
}

// encode puts really different pictures through the real chain, one at a time, and asks for a keyframe in the middle.
func (t trial) encode(ctx context.Context, m *Method, codec media.Codec) (units [][]byte, latencies []time.Duration, err error) {
	pattern, err := newPattern(t.width, t.height)
	if err != nil {
		return nil, nil, err
	}
	defer pattern.close()
	in := Input{Codec: codec, Layout: pattern.layout(), FPS: t.fps, BitsPerSecond: probeBitrate}
	results := make(chan result, unitQueue)
	e, err := startEncoder(m, in, results)
	if err != nil {
		return nil, nil, err
	}
	defer e.close()
	for i := range t.frames {
		unit, took, err := t.one(ctx, e, results, pattern, i)
		if err != nil {
			return nil, nil, m.explain(codec, fmt.Errorf("picture %d of %d: %w", i+1, t.frames, err))
		}
		units = append(units, unit)
		if i >= warmupFrames || t.frames <= warmupFrames {
			latencies = append(latencies, took)
		}
	}
	return units, latencies, nil
}

func (t trial) one(ctx context.Context, e *encoder, results <-chan result, pattern *pattern, i int) ([]byte, time.Duration, error) {
	picture := pattern.draw(i)
	defer picture.Release()
	begin := media.Now()
	if err := e.push(&picture, begin, i == t.frames/2); err != nil {
		return nil, 0, err
	}
	limit := time.NewTimer(startTimeout)
	defer limit.Stop()
	select {
	case r := <-results:
		return r.unit.Data, r.at.Sub(begin), r.err
	case <-limit.C:
		return nil, 0, fmt.Errorf("%w (waited %v)", ErrHung, startTimeout)
	case <-ctx.Done():
		return nil, 0, ctx.Err()
	}
}

// check holds the units against the promises of the contract.
func (g *measured) check(codec media.Codec, units [][]byte, t trial) error {
	seen := map[uint64]bool{}
	for i, u := range units {
		info := bitstream.Inspect(codec, u)
		if !info.Picture {
			return fmt.Errorf("unit %d holds no picture", i)
		}
		if wantKey := i == 0 || i == t.frames/2; wantKey && !info.Key {
			return fmt.Errorf("unit %d is no keyframe", i)
		}
		h := fnv.New64a()
		h.Write(u)
		seen[h.Sum64()] = true
	}
	g.frames, g.distinct = len(units), len(seen)
	if g.distinct < len(units) {
		return fmt.Errorf("only %d of %d units are distinct", g.distinct, len(units))
	}
	if codec == media.CodecH264 {
		if err := g.checkH264(units[0], t); err != nil {
			return err
		}
	}
	return g.decode(codec, units)
}

// checkH264 reads what the sequence parameter set promises a decoder.
func (g *measured) checkH264(first []byte, t trial) error {
	sps, err := bitstream.ParseSPS(bitstream.FindSPS(first))
	if err != nil {
		return fmt.Errorf("its first unit has no readable SPS: %w", err)
	}
	if sps.Width != t.width&^1 || sps.Height != t.height&^1 {
		return fmt.Errorf("its SPS says %dx%d instead of %dx%d", sps.Width, sps.Height, t.width, t.height)
	}
	g.details["codec_string"] = sps.CodecString()
	g.details["reorder"] = "restricted to 0"
	switch {
	case sps.Restricted && sps.MaxReorder > 0:
		return fmt.Errorf("its SPS lets pictures be reordered by %d", sps.MaxReorder)
	case !sps.Restricted && sps.PicOrder != 2:
		g.details["reorder"] = "not restricted in the VUI: decoders may hold pictures back"
	}
	if note := bitstream.EncoderNote(first); note != "" {
		g.details["encoder"] = note
	}
	return nil
}

// percentile sorts a copy.
func percentile(d []time.Duration, p int) time.Duration {
	if len(d) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(d))
	return s[min(len(s)*p/100, len(s)-1)]
}
