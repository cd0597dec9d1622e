package fingerprint

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wavry/fleet/hostruntime/pipeline"
	"github.com/wavry/fleet/hostruntime/pluginhost"
	"github.com/wavry/fleet/master/masterapi"
)

// Verdict of one line.
type Verdict string

// The verdicts. A host is usable as long as one capture and one encoder method are OK, whatever else warns or fails.
const (
	OK   Verdict = "ok"
	Warn Verdict = "warn" // works, but not as well as it could
	Fail Verdict = "fail" // what depends on it will not work
)

// Result is a fingerprint. Its JSON form is an API.
type Result struct {
	Time    time.Time `json:"time"`
	Version string    `json:"version"` // of the host runtime
	Checks  []Check   `json:"checks"`
	Plugins []Plugin  `json:"plugins"`
	// Order is what the operator wants, where somebody said so, and Refused is why a newer wish is not followed; empty: it is.
	Order   Order  `json:"order"`
	Refused string `json:"refused,omitempty"`
	// Dirs is where plugins were looked for.
	Dirs []string `json:"dirs"`
	// Captures and Encoders are the usable methods in the order in which they will be tried.
	Captures []Choice `json:"captures"`
	Encoders []Choice `json:"encoders"`
	// Joint is the trial of the first capture with the first encoder; nil: not made.
	Joint *Joint `json:"joint,omitempty"`
	// Versions of everything found, by a stable name: what a lock file pins.
	Versions map[string]string `json:"versions"`
}

// Check is one fact about the node.
type Check struct {
	Name    string  `json:"name"`
	Verdict Verdict `json:"verdict"`
	Detail  string  `json:"detail"`
	Remedy  string  `json:"remedy,omitempty"`
}

// Plugin is one binary with its methods.
type Plugin struct {
	Name    string          `json:"name"`
	Role    pluginhost.Role `json:"role"`
	Path    string          `json:"path"`
	Verdict Verdict         `json:"verdict"` // OK: a method is usable
	Reason  string          `json:"reason"`
	Remedy  string          `json:"remedy,omitempty"`
	Methods []Method        `json:"methods"`

	mark string // of the file that was tried
	gone bool   // it worked, and its file is no longer there
}

// Method is one way a plugin works, with the proof.
type Method struct {
	Name     string            `json:"name"`
	Verdict  Verdict           `json:"verdict"`
	Reason   string            `json:"reason"`
	Remedy   string            `json:"remedy,omitempty"`
	Frames   uint32            `json:"frames"`
	Distinct uint32            `json:"distinct"`
	P50      float64           `json:"latency_p50_ms"`
	P95      float64           `json:"latency_p95_ms"`
	Codecs   []string          `json:"codecs,omitempty"`
	Details  map[string]string `json:"details,omitempty"`
}

// Choice is a usable method of a plugin.
type Choice struct {
	Plugin  string   `json:"plugin"`
	Methods []string `json:"methods"` // usable ones in order
	Path    string   `json:"path"`
	Reason  string   `json:"reason"` // why at this place
}

// Joint is what a capture and an encoder did together.
type Joint struct {
	Capture      string  `json:"capture"`
	Encoder      string  `json:"encoder"`
	Verdict      Verdict `json:"verdict"`
	Reason       string  `json:"reason"`
	Remedy       string  `json:"remedy,omitempty"`
	Units        int     `json:"units"`
	FirstPicture float64 `json:"first_picture_ms"` // from launching both
	HandoffP50   float64 `json:"handoff_p50_ms"`
	EncodeP50    float64 `json:"encode_p50_ms"`
	CrossingP50  float64 `json:"crossing_p50_ms"` // encoder process to host runtime
}

// Usable reports whether a session can run here.
func (r *Result) Usable() bool {
	return len(r.Captures) > 0 && len(r.Encoders) > 0 && (r.Joint == nil || r.Joint.Verdict != Fail)
}

// Unusable is why no session can run here and what to do; empty: one can.
func (r *Result) Unusable() string {
	var reasons []string
	if len(r.Captures) == 0 {
		reasons = append(reasons, r.lacking(pluginhost.RoleCapture, r.Order.Captures))
	}
	if len(r.Encoders) == 0 {
		reasons = append(reasons, r.lacking(pluginhost.RoleEncode, r.Order.Encoders))
	}
	if r.Joint != nil && r.Joint.Verdict == Fail {
		reasons = append(reasons, r.Joint.Reason+"; "+r.Joint.Remedy)
	}
	return strings.Join(reasons, ". ")
}

// lacking names every file that was to be used, with what is wrong with it.
func (r *Result) lacking(role pluginhost.Role, wanted []string) string {
	if len(wanted) == 0 {
		wanted = byDefault(r.Plugins, role)
	}
	wanted = slices.Clone(wanted)
	slices.SortStableFunc(wanted, func(a, b string) int { return r.isGone(role, b) - r.isGone(role, a) }) // a short text has the news
	var reasons []string
	for _, want := range wanted {
		name, method, _ := strings.Cut(want, "/")
		p := r.plugin(role, name)
		if p == nil {
			reasons = append(reasons, fmt.Sprintf("wavry-%s is missing in %s; put back that of this release", name, strings.Join(r.Dirs, ", ")))
			continue
		}
		reason, remedy := p.Reason, p.Remedy
		if m := p.method(method); m != nil {
			reason, remedy = m.Reason, m.Remedy
		}
		reasons = append(reasons, fmt.Sprintf("%s: %s; %s", p.Path, reason, remedy))
	}
	if len(reasons) == 0 {
		return fmt.Sprintf("no wavry-%s-* in %s; install the plugins of the same release as the wavry binary there", role, strings.Join(r.Dirs, ", "))
	}
	return strings.Join(reasons, ". ")
}

func (r *Result) isGone(role pluginhost.Role, want string) int {
	name, _, _ := strings.Cut(want, "/")
	if p := r.plugin(role, name); p != nil && p.gone {
		return 1
	}
	return 0
}

// missGone adds the plugins that worked before and are no longer there, so that a reason names the file that was lost.
func (r *Result) missGone(before *Result) {
	if before == nil {
		return
	}
	for _, p := range before.Plugins {
		if (p.Verdict == OK || p.gone) && r.plugin(p.Role, p.Name) == nil {
			r.Plugins = append(r.Plugins, Plugin{
				Name: p.Name, Role: p.Role, Path: p.Path, Verdict: Fail, Reason: "the file is gone", Remedy: "put it back", gone: true,
			})
		}
	}
}

func (r *Result) plugin(role pluginhost.Role, name string) *Plugin {
	i := slices.IndexFunc(r.Plugins, func(p Plugin) bool { return p.Role == role && p.Name == name })
	if i < 0 {
		return nil
	}
	return &r.Plugins[i]
}

func (p *Plugin) method(name string) *Method {
	i := slices.IndexFunc(p.Methods, func(m Method) bool { return m.Name == name })
	if i < 0 {
		return nil
	}
	return &p.Methods[i]
}

// CaptureCandidates is what package pipeline should try, in order.
func (r *Result) CaptureCandidates() []pipeline.Candidate { return candidates(r.Captures) }

// EncoderCandidates is what package pipeline should try, in order.
func (r *Result) EncoderCandidates() []pipeline.Candidate { return candidates(r.Encoders) }

func candidates(choices []Choice) []pipeline.Candidate {
	list := make([]pipeline.Candidate, len(choices))
	for i, c := range choices {
		list[i] = pipeline.Candidate{Name: c.Plugin, Path: c.Path, Methods: c.Methods}
	}
	return list
}

// Meta is the short form for Consul service meta, Nomad node meta and the master: closed keys, no personal data.
func (r *Result) Meta() map[string]string {
	m := map[string]string{"capture": first(r.Captures), "encoder": first(r.Encoders), "codecs": strings.Join(r.codecs(), ",")}
	for _, c := range r.Checks {
		if c.Name == checkCompositor && c.Verdict == OK {
			m["compositor"], _, _ = strings.Cut(c.Detail, " ")
		}
	}
	for key, text := range map[string]string{masterapi.AttributeUnusable: r.Unusable(), masterapi.AttributeRefused: r.Refused} {
		if text != "" {
			m[key] = masterapi.AttributeText(text)
		}
	}
	return m
}

func first(choices []Choice) string {
	if len(choices) == 0 {
		return ""
	}
	return strings.TrimSuffix(choices[0].Plugin+"/"+strings.Join(choices[0].Methods[:min(1, len(choices[0].Methods))], ""), "/")
}

func (r *Result) codecs() []string {
	var list []string
	for _, p := range r.Plugins {
		for _, m := range p.Methods {
			if m.Verdict == OK {
				list = append(list, m.Codecs...)
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}
