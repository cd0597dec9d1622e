package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsimple"
)

// loadConfig fills file, a pointer to a flat struct with the defaults already in it, in the order file < environment < flags.
//
// Each field has an `hcl:"key,optional"` tag and a `help:"..."` tag. From key `bind_addr` of role "relay" come the environment
// variable WAVRY_RELAY_BIND_ADDR and the flag -bind-addr. Field types: string, bool, int, float64, []string (comma-separated
// outside the file); durations are strings and are checked by the role's own validation. Every problem is reported at once.
// flags holds the command's further flags and has been given its output; it is parsed here.
func loadConfig(role string, file any, flags *flag.FlagSet, args []string) error {
	fields := configFields(file)
	set := map[string]string{} // flags are recorded while parsing and applied last
	for _, f := range fields {
		record := func(s string) error { set[f.key] = s; return nil }
		usage := fmt.Sprintf("%s (default %v)", f.help, f.value.Interface())
		if f.value.Kind() == reflect.Bool {
			flags.BoolFunc(f.flagName(), usage, record)
		} else {
			flags.Func(f.flagName(), usage, record)
		}
	}
	path := flags.String("config", os.Getenv(envName(role, "config")), "HCL configuration `file`")
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q: this command takes flags only", flags.Arg(0))
	}
	problems := decodeFile(*path, file)
	for _, f := range fields {
		if s, ok := os.LookupEnv(envName(role, f.key)); ok && !unresolved(s) {
			if err := f.set(s); err != nil {
				problems = append(problems, fmt.Errorf("environment %s=%q: %w", envName(role, f.key), f.shown(s), err))
			}
		}
		if s, ok := set[f.key]; ok {
			if err := f.set(s); err != nil {
				problems = append(problems, fmt.Errorf("flag -%s=%q: %w", f.flagName(), f.shown(s), err))
			}
		}
	}
	return errors.Join(problems...)
}

// decodeFile reads an HCL file, if any, and returns every problem it has, each with its line.
func decodeFile(path string, file any) []error {
	if path == "" {
		return nil
	}
	src, err := os.ReadFile(path)
	if err != nil {
		return []error{fmt.Errorf("read configuration: %w", err)}
	}
	name := path
	if filepath.Ext(name) != ".json" {
		name = strings.TrimSuffix(name, ".hcl") + ".hcl" // hclsimple knows the syntax by this suffix only
	}
	var found hcl.Diagnostics
	err = hclsimple.Decode(name, src, nil, file)
	if err != nil && !errors.As(err, &found) {
		return []error{fmt.Errorf("read configuration %s: %w", path, err)}
	}
	problems := make([]error, 0, len(found))
	for _, d := range found {
		line := 0
		if d.Subject != nil {
			line = d.Subject.Start.Line
		}
		problems = append(problems, fmt.Errorf("%s:%d: %s; %s", path, line, d.Summary, d.Detail))
	}
	return problems
}

// unresolved reports whether a scheduler could not fill in a value: Nomad leaves "${meta.x}" as it is on a node without x.
func unresolved(s string) bool { return strings.HasPrefix(s, "${") && strings.HasSuffix(s, "}") }

type configField struct {
	key, help string
	value     reflect.Value
}

func configFields(file any) []configField {
	v := reflect.ValueOf(file).Elem()
	fields := make([]configField, 0, v.NumField())
	for i := range v.NumField() {
		tag := v.Type().Field(i).Tag
		key, _, _ := strings.Cut(tag.Get("hcl"), ",")
		fields = append(fields, configField{key: key, help: tag.Get("help"), value: v.Field(i)})
	}
	return fields
}

func (f configField) flagName() string { return strings.ReplaceAll(f.key, "_", "-") }

// shown is a value as people may see it: a secret that is set is redacted.
func (f configField) shown(value string) string {
	if strings.HasSuffix(f.key, "_secret") && value != "" {
		return "REDACTED"
	}
	return value
}

func envName(role, key string) string {
	return "WAVRY_" + strings.ToUpper(role) + "_" + strings.ToUpper(key)
}

func (f configField) set(s string) error {
	switch f.value.Interface().(type) {
	case string:
		f.value.SetString(s)
	case bool:
		b, err := strconv.ParseBool(s)
		if err != nil {
			return errors.New("must be true or false")
		}
		f.value.SetBool(b)
	case int:
		n, err := strconv.Atoi(s)
		if err != nil {
			return errors.New("must be a whole number")
		}
		f.value.SetInt(int64(n))
	case float64:
		n, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return errors.New("must be a number")
		}
		f.value.SetFloat(n)
	case []string:
		f.value.Set(reflect.ValueOf(splitList(s)))
	default:
		panic("config field " + f.key + " has a type loadConfig does not know")
	}
	return nil
}

// changedKeys lists the keys whose values differ between two configurations of one role.
func changedKeys(before, after any) (keys []string) {
	old := configFields(before)
	for i, f := range configFields(after) {
		if !reflect.DeepEqual(old[i].value.Interface(), f.value.Interface()) {
			keys = append(keys, f.key)
		}
	}
	return keys
}

func splitList(s string) []string {
	var list []string
	for item := range strings.SplitSeq(s, ",") {
		if item = strings.TrimSpace(item); item != "" {
			list = append(list, item)
		}
	}
	return list
}

// duration parses the value of a duration key and appends what is wrong with it to problems.
func duration(key, value string, problems *[]error) time.Duration {
	d, err := time.ParseDuration(value)
	if err != nil {
		*problems = append(*problems, fmt.Errorf("%s = %q: must be a duration such as \"30s\" or \"5m\"", key, value))
	}
	return d
}

// printConfig writes the effective configuration as HCL, as -check-config shows it. A key whose name ends in _secret is redacted.
func printConfig(env *environment, file any) {
	for _, f := range configFields(file) {
		switch v := f.value.Interface().(type) {
		case string:
			fmt.Fprintf(env.stdout, "%s = %q\n", f.key, f.shown(v))
		case []string:
			fmt.Fprintf(env.stdout, "%s = [", f.key)
			for i, s := range v {
				if i > 0 {
					fmt.Fprint(env.stdout, ", ")
				}
				fmt.Fprintf(env.stdout, "%q", s)
			}
			fmt.Fprintln(env.stdout, "]")
		default:
			fmt.Fprintf(env.stdout, "%s = %v\n", f.key, v)
		}
	}
}

// checkConfigHelp describes a flag that most roles have.
var checkConfigHelp = [2]string{"check-config", "check and print the configuration, then exit"}

// optionHelp lists a role's options with their defaults, which file holds. further describes the command's other flags.
func optionHelp(role string, file any, further ...[2]string) string {
	var text strings.Builder
	fmt.Fprintf(&text, "Options (in the configuration file KEY = VALUE with _ for -, in the environment WAVRY_%s_KEY):\n\n", strings.ToUpper(role))
	option := func(name, help string) { fmt.Fprintf(&text, "  -%s\n      %s\n", name, help) }
	for _, f := range configFields(file) {
		if f.value.IsZero() {
			option(f.flagName(), f.help)
		} else {
			option(f.flagName(), fmt.Sprintf("%s (default %v)", f.help, f.value.Interface()))
		}
	}
	option("config", "HCL configuration file")
	for _, f := range further {
		option(f[0], f[1])
	}
	return text.String()
}
