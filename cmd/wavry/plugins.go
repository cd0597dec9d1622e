package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/wavry/fleet/hostruntime/pipeline"
	"github.com/wavry/fleet/hostruntime/pluginhost"
)

// The orders without a preference. capture-test is never a default: a person who asked for a desktop should not get a test picture.
var (
	defaultCaptures = []string{"capture-wayland"}
	defaultEncoders = []string{"encode-nvenc", "encode-vaapi", "encode-software"}
)

type plugins struct {
	captures, encoders []pipeline.Candidate
}

// findPlugins turns the operator's preference into candidates that exist on disk.
func findPlugins(cfg hostConfig) (plugins, error) {
	binaries, err := pluginhost.Discover(cfg.pluginDirs()...)
	if err != nil {
		return plugins{}, err
	}
	captures, captureErr := candidates("capture", cfg.Capture, defaultCaptures, binaries)
	encoders, encodeErr := candidates("encode", cfg.Encode, defaultEncoders, binaries)
	return plugins{captures, encoders}, errors.Join(captureErr, encodeErr)
}

// candidates resolves names, each PLUGIN or PLUGIN/METHOD. A plugin that the operator named must exist; a default one may be
// missing, as long as one is there.
func candidates(key string, wanted, defaults []string, binaries []pluginhost.Binary) ([]pipeline.Candidate, error) {
	named := len(wanted) > 0
	if !named {
		wanted = defaults
	}
	var list []pipeline.Candidate
	var problems []error
	for _, want := range wanted {
		name, method, _ := strings.Cut(want, "/")
		i := slices.IndexFunc(binaries, func(b pluginhost.Binary) bool { return b.Name == name && string(b.Role) == key })
		if i < 0 {
			if named {
				problems = append(problems, fmt.Errorf("%s = %q: no such plugin; install wavry-%s beside wavry, or name its directory with -plugin-dirs", key, want, name))
			}
			continue
		}
		c := pipeline.Candidate{Name: want, Path: binaries[i].Path}
		if method != "" {
			c.Methods = []string{method}
		}
		list = append(list, c)
	}
	if len(list) == 0 && len(problems) == 0 {
		problems = append(problems, fmt.Errorf("no %s plugin is installed; expected one of wavry-%s beside wavry", key, strings.Join(defaults, ", wavry-")))
	}
	return list, errors.Join(problems...)
}

// pluginOptions reads PLUGIN/KEY=VALUE and returns the options by plugin. What they mean only the plugin knows.
func pluginOptions(list []string) (map[string]map[string]string, error) {
	options := map[string]map[string]string{}
	var problems []error
	for _, item := range list {
		plugin, setting, _ := strings.Cut(item, "/")
		key, value, ok := strings.Cut(setting, "=")
		if !ok || plugin == "" || key == "" {
			problems = append(problems, fmt.Errorf("plugin_options = %q: must be PLUGIN/KEY=VALUE, such as capture-wayland/xkb_layout=de", item))
			continue
		}
		if options[plugin] == nil {
			options[plugin] = map[string]string{}
		}
		options[plugin][key] = value
	}
	return options, errors.Join(problems...)
}

// withOptions gives candidates, PLUGIN or PLUGIN/METHOD, the options of their plugin.
func withOptions(list []pipeline.Candidate, options map[string]map[string]string) []pipeline.Candidate {
	list = slices.Clone(list)
	for i := range list {
		plugin, _, _ := strings.Cut(list[i].Name, "/")
		list[i].Options = options[plugin]
	}
	return list
}
