package encode

import (
	"errors"
	"math"
	"regexp"
	"strings"
	"testing"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/internal/gstpipe"
)

// Start names everything that is wrong with a request at once.
func TestCheckStart(t *testing.T) {
	_, err := checkStart(&pluginpb.StartEncodeRequest{Codec: "opus", Fps: math.NaN(), KeepaliveFps: -1, BitsPerSecond: 1})
	for _, key := range []string{"codec", "source_path", "fps", "keepalive_fps", "bits_per_second"} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s is not named in %v", key, err)
		}
	}
	good := &pluginpb.StartEncodeRequest{Codec: "h264", SourcePath: "x", Fps: 60, BitsPerSecond: MinBitrate}
	if _, err := checkStart(good); err != nil {
		t.Error(err)
	}
}

// Rates are taken at their limits and refused beyond.
func TestLimits(t *testing.T) {
	for bps, ok := range map[uint32]bool{MinBitrate - 1: false, MinBitrate: true, MaxBitrate: true, MaxBitrate + 1: false} {
		if err := checkBitrate(bps); (err == nil) != ok {
			t.Errorf("%d: %v", bps, err)
		}
	}
	for fps, ok := range map[float64]bool{0.99: false, 1: true, MaxFramerate: true, MaxFramerate + 0.1: false, math.Inf(1): false} {
		if err := checkFramerate(fps); (err == nil) != ok {
			t.Errorf("%v: %v", fps, err)
		}
	}
}

func unavailable(reason, remedy string) func(media.Codec) *pluginapi.UnavailableError {
	return func(media.Codec) *pluginapi.UnavailableError {
		return &pluginapi.UnavailableError{Reason: reason, Remedy: remedy}
	}
}

// When no method works the error says why for each of them and what to do.
func TestNoMethodWorks(t *testing.T) {
	p := New(Config{Name: "test", Methods: []Method{
		{Name: "a", Codecs: []media.Codec{media.CodecH264}, Available: unavailable("a is broken", "mend a")},
		{Name: "b", Codecs: []media.Codec{media.CodecAV1}, Available: unavailable("b is broken", "mend b")},
	}})
	_, err := p.Start(t.Context(), &pluginpb.StartEncodeRequest{Codec: "h264", SourcePath: "x", Fps: 60, BitsPerSecond: 1e6})
	var u *pluginapi.UnavailableError
	if !errors.As(err, &u) || !strings.Contains(u.Reason, "a is broken") || !strings.Contains(u.Reason, "does not encode h264") || u.Remedy == "" {
		t.Fatal(err)
	}
	report, err := p.Probe(t.Context(), &pluginpb.ProbeRequest{})
	if err != nil || len(report.Items) != 2 || report.Items[0].Usable || report.Items[1].Remedy != "mend b" {
		t.Fatalf("%+v %v", report, err)
	}
}

// A missing element is named with the package that brings it.
func TestMissingElement(t *testing.T) {
	u := Require("appsrc", "x264enc-of-another-world")
	if u == nil || !strings.Contains(u.Reason, "x264enc-of-another-world") || u.Remedy == "" {
		t.Fatal(u)
	}
	if u := Missing("x264enc"); u.Remedy != "install gstreamer1.0-plugins-ugly" {
		t.Fatal(u)
	}
	if _, err := gstpipe.Build("test", []gstpipe.Element{{Factory: "no-such-element"}}); err == nil {
		t.Fatal("built")
	} else if f, ok := gstpipe.IsMissing(err); !ok || f != "no-such-element" {
		t.Fatal(err)
	}
}

// Calls before Start, unknown methods and unknown options are refused by name; Stop without Start is nothing.
func TestMisuse(t *testing.T) {
	p := New(Config{Name: "test"})
	if err := p.SetBitrate(t.Context(), 1e6); !errors.Is(err, ErrNotStarted) {
		t.Error(err)
	}
	if err := p.Watch(t.Context(), nil); !errors.Is(err, ErrNotStarted) {
		t.Error(err)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := p.Probe(t.Context(), &pluginpb.ProbeRequest{Method: "quantum"}); err == nil || !strings.Contains(err.Error(), "quantum") {
		t.Error(err)
	}
	if _, err := p.Probe(t.Context(), &pluginpb.ProbeRequest{Frames: maxProbeFrames + 1, Size: &pluginpb.Size{Width: 1}}); err == nil {
		t.Error("a probe without limits is taken")
	}
	m := Method{Name: "m", Options: map[string]*regexp.Regexp{"threads": regexp.MustCompile("^[0-9]+$")}}
	if err := m.checkOptions(map[string]string{"thread": "1"}); err == nil || !strings.Contains(err.Error(), "threads") {
		t.Error(err)
	}
	if err := m.checkOptions(map[string]string{"threads": strings.Repeat("1", maxOption+1)}); err == nil {
		t.Error("an endless option is taken")
	}
}
