package fingerprint

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/wavry/fleet/hostruntime/pluginhost"
)

// Order is in which order an operator wants plugins tried, each PLUGIN or PLUGIN/METHOD. An empty list is no wish: every plugin that
// passes its trial, hardware first, the test pattern never.
type Order struct {
	Captures []string `json:"captures,omitempty"`
	Encoders []string `json:"encoders,omitempty"`
}

// Over is o, with what o has no wish for taken from base.
func (o Order) Over(base Order) Order {
	if len(o.Captures) == 0 {
		o.Captures = base.Captures
	}
	if len(o.Encoders) == 0 {
		o.Encoders = base.Encoders
	}
	return o
}

// Equal reports whether both are the same wish.
func (o Order) Equal(other Order) bool {
	return slices.Equal(o.Captures, other.Captures) && slices.Equal(o.Encoders, other.Encoders)
}

// Choose takes another order of what was tried.
func (r *Result) Choose(o Order) {
	r.Order = o
	r.Captures = choose(r.Plugins, pluginhost.RoleCapture, o.Captures)
	r.Encoders = choose(r.Plugins, pluginhost.RoleEncode, o.Encoders)
}

// Check reports every name in an order that is nothing on this node: more likely a slip of the pen than a wish. A plugin that is there
// and does not work is no error.
func (r *Result) Check(o Order) error {
	return errors.Join(r.checkNames("capture", pluginhost.RoleCapture, o.Captures), r.checkNames("encode", pluginhost.RoleEncode, o.Encoders))
}

func (r *Result) checkNames(key string, role pluginhost.Role, wanted []string) error {
	var problems []error
	for _, want := range wanted {
		name, method, _ := strings.Cut(want, "/")
		p := r.plugin(role, name)
		switch {
		case p == nil:
			var have []string
			for _, p := range r.Plugins {
				if p.Role == role {
					have = append(have, p.Name)
				}
			}
			problems = append(problems, fmt.Errorf("%s = %q: there is no wavry-%s in %s; use %s", key, want, name, strings.Join(r.Dirs, ", "), choices(have)))
		case method != "" && len(p.Methods) > 0 && p.method(method) == nil:
			var have []string
			for _, m := range p.Methods {
				have = append(have, p.Name+"/"+m.Name)
			}
			problems = append(problems, fmt.Errorf("%s = %q: %s has no such method; use %s", key, want, name, choices(have)))
		}
	}
	return errors.Join(problems...)
}

func choices(have []string) string {
	if len(have) == 0 {
		return "nothing: no such plugin is installed"
	}
	return strings.Join(have, ", ")
}
