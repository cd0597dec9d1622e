package fingerprint

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/hostruntime/pluginhost"
)

// defaultOrder is the preference of an operator who has none: hardware first. Plugins that are not listed come after, by name.
// capture-test is chosen only by name: whoever asked for a desktop should not get a test picture.
var defaultOrder = []string{"capture-wayland", "encode-nvenc", "encode-vaapi", "encode-software"}

const neverDefault = "capture-test"

// choose lists what is usable in the wanted order (PLUGIN or PLUGIN/METHOD). Neighbouring methods of one plugin become one choice.
func choose(plugins []Plugin, role pluginhost.Role, wanted []string) []Choice {
	named := len(wanted) > 0
	if !named {
		wanted = byDefault(plugins, role)
	}
	var list []Choice
	for _, want := range wanted {
		name, only, _ := strings.Cut(want, "/")
		i := slices.IndexFunc(plugins, func(p Plugin) bool { return p.Role == role && p.Name == name })
		if i < 0 {
			continue
		}
		methods := usableMethods(plugins[i], only)
		if len(methods) == 0 {
			continue
		}
		if n := len(list); n > 0 && list[n-1].Plugin == name {
			list[n-1].Methods = append(list[n-1].Methods, methods...)
			continue
		}
		list = append(list, Choice{Plugin: name, Methods: methods, Path: plugins[i].Path, Reason: place(len(list), named)})
	}
	return list
}

func place(n int, named bool) string {
	order := "default order"
	if named {
		order = "operator's order"
	}
	if n == 0 {
		return "first of the " + order + " that passed its trial"
	}
	return fmt.Sprintf("fallback %d by the %s", n, order)
}

func byDefault(plugins []Plugin, role pluginhost.Role) []string {
	var names []string
	for _, p := range plugins {
		if p.Role == role && p.Name != neverDefault {
			names = append(names, p.Name)
		}
	}
	rank := func(name string) int {
		if i := slices.Index(defaultOrder, name); i >= 0 {
			return i
		}
		return len(defaultOrder)
	}
	slices.SortStableFunc(names, func(a, b string) int { return rank(a) - rank(b) })
	return names
}

func usableMethods(p Plugin, only string) []string {
	var list []string
	for _, m := range p.Methods {
		if m.Verdict == OK && (only == "" || only == m.Name) {
			list = append(list, m.Name)
		}
	}
	return list
}

func reasonRemedy(err error) (reason, remedy string) {
	var u *pluginapi.UnavailableError
	if errors.As(err, &u) {
		return u.Reason, u.Remedy
	}
	return err.Error(), "run it again with WAVRY_LOG_LEVEL=debug to see what the plugin logs"
}
