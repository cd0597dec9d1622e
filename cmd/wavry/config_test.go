package main

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

type sampleConfig struct {
	Name        string   `hcl:"name,optional" help:"a text"`
	Count       int      `hcl:"count,optional" help:"a number"`
	Share       float64  `hcl:"share,optional" help:"a share"`
	On          bool     `hcl:"on,optional" help:"a switch"`
	BindAddrs   []string `hcl:"bind_addrs,optional" help:"a list"`
	TokenSecret string   `hcl:"token_secret,optional" help:"a secret"`
}

// load loads a sampleConfig with the given file text, "" for no file, and arguments.
func load(t *testing.T, file string, args ...string) (sampleConfig, error) {
	t.Helper()
	if file != "" {
		args = append([]string{"-config", writeFile(t, "sample.hcl", file)}, args...)
	}
	cfg := sampleConfig{Name: "default", Count: 1, Share: 0.5, BindAddrs: []string{"default"}}
	flags := flag.NewFlagSet("sample", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	return cfg, loadConfig("sample", &cfg, flags, args)
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Defaults give way to the file, the file to the environment, the environment to flags, for each kind of value.
func TestConfigPrecedence(t *testing.T) {
	file := "name = \"file\"\ncount = 2\nshare = 0.25\non = true\nbind_addrs = [\"file\", \"2\"]\n"
	fromFile := sampleConfig{Name: "file", Count: 2, Share: 0.25, On: true, BindAddrs: []string{"file", "2"}}
	for _, c := range []struct {
		name, file string
		env        map[string]string
		args       []string
		want       sampleConfig
	}{
		{name: "defaults", want: sampleConfig{Name: "default", Count: 1, Share: 0.5, BindAddrs: []string{"default"}}},
		{name: "file", file: file, want: fromFile},
		{
			name: "environment over file", file: file,
			env:  map[string]string{"NAME": "env", "COUNT": "3", "SHARE": "0.75", "ON": "false", "BIND_ADDRS": "env, 3,"},
			want: sampleConfig{Name: "env", Count: 3, Share: 0.75, BindAddrs: []string{"env", "3"}},
		},
		{
			name: "flags over environment", file: file,
			env:  map[string]string{"NAME": "env", "COUNT": "3", "SHARE": "0.75", "ON": "false", "BIND_ADDRS": "env"},
			args: []string{"-name", "flag", "-count=4", "-share", "1", "-on", "-bind-addrs", "flag,4"},
			want: sampleConfig{Name: "flag", Count: 4, Share: 1, On: true, BindAddrs: []string{"flag", "4"}},
		},
		{name: "an empty variable is a value", file: file, env: map[string]string{"NAME": ""}, want: sampleConfig{Count: 2, Share: 0.25, On: true, BindAddrs: []string{"file", "2"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for k, v := range c.env {
				t.Setenv("WAVRY_SAMPLE_"+k, v)
			}
			got, err := load(t, c.file, c.args...)
			if err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("%+v, %v; want %+v", got, err, c.want)
			}
		})
	}
}

// The file may be named by the environment, and may have any name.
func TestConfigFileByEnvironment(t *testing.T) {
	t.Setenv("WAVRY_SAMPLE_CONFIG", writeFile(t, "sample.conf", "count = 9"))
	if got, err := load(t, ""); err != nil || got.Count != 9 {
		t.Errorf("%+v, %v", got, err)
	}
}

// Every problem of file, environment and flags is reported at once, with its place, and no secret is repeated.
func TestConfigProblemsAtOnce(t *testing.T) {
	t.Setenv("WAVRY_SAMPLE_COUNT", "many")
	t.Setenv("WAVRY_SAMPLE_SHARE", "half")
	_, err := load(t, "nmae = \"typo\"\ncolour = \"red\"\n", "-on=perhaps")
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"nmae", "sample.hcl:1", "colour", "sample.hcl:2", `WAVRY_SAMPLE_COUNT="many"`, "whole number", `WAVRY_SAMPLE_SHARE="half"`, `-on="perhaps"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %s in\n%v", want, err)
		}
	}
}

// What is no configuration is refused with a reason.
func TestConfigRefused(t *testing.T) {
	for _, c := range []struct {
		name, file string
		args       []string
		want       string
	}{
		{"syntax", "name = ", nil, "sample.hcl:1"},
		{"wrong type", "count = \"many\"", nil, "a number is required"},
		{"a block", "name {\n}", nil, "sample.hcl:1"},
		{"binary", "\x00\xff\x00", nil, "sample.hcl:1"},
		{"no file", "", []string{"-config", "/nonexistent/sample.hcl"}, "no such file"},
		{"a directory", "", []string{"-config", os.TempDir()}, "is a directory"},
		{"unknown flag", "", []string{"-colour", "red"}, "colour"},
		{"argument", "", []string{"stray"}, `unexpected argument "stray"`},
	} {
		if _, err := load(t, c.file, c.args...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// -check-config prints the effective values as a file that loads again, with secrets redacted.
func TestPrintConfig(t *testing.T) {
	cfg := sampleConfig{Name: "a \"b\"", Count: 7, Share: 0.5, On: true, BindAddrs: []string{"x", "y"}, TokenSecret: "hunter2"}
	var out bytes.Buffer
	printConfig(&environment{stdout: &out}, &cfg)
	if strings.Contains(out.String(), "hunter2") || !strings.Contains(out.String(), `token_secret = "REDACTED"`) {
		t.Errorf("printed\n%s", out.String())
	}
	cfg.TokenSecret = "REDACTED"
	if again, err := load(t, out.String()); err != nil || !reflect.DeepEqual(again, cfg) {
		t.Errorf("loaded again %+v, %v; want %+v", again, err, cfg)
	}
}

// Every option of every role is in the role's help, and every option says what it is.
func TestHelpListsOptions(t *testing.T) {
	env := &environment{stdout: io.Discard, stderr: io.Discard}
	for name, file := range map[string]any{
		"host": &hostConfig{}, "host doctor": &hostConfig{}, "dev": &hostConfig{}, "relay": &relayConfig{},
		"master": new(defaultMasterFile()), "gateway": new(defaultGatewayFile()), "desktop run": &desktopConfig{},
	} {
		command, err := commands(env)[name]()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range configFields(file) {
			if f.help == "" || !strings.Contains(command.Help(), "  -"+f.flagName()+"\n") {
				t.Errorf("%s: -%s is not explained", name, f.flagName())
			}
		}
	}
}

// wavryRun runs a command line as a person would.
func wavryRun(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(args, &out, &errs)
	return code, out.String(), errs.String()
}

// A host's configuration is checked as a whole: addresses nobody reaches, numbers out of range, wrong durations, unknown keys.
func TestHostCheckConfig(t *testing.T) {
	good := writeFile(t, "host.hcl", "pool = \"games\"\nslots = 2\ncapture = [\"capture-test\"]\nconsul_token_secret = \"hunter2\"\n")
	code, out, errs := wavryRun("host", "-check-config", "-config", good, "-max-fps", "30")
	if code != 0 || strings.Contains(out+errs, "hunter2") {
		t.Fatalf("exit %d: %s%s", code, out, errs)
	}
	for _, want := range []string{`pool = "games"`, "slots = 2", "max_fps = 30", `consul_token_secret = "REDACTED"`} {
		if !strings.Contains(out, want) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
	code, _, errs = wavryRun("host", "-check-config", "-bind-addr", "0.0.0.0:0", "-slots", "0", "-grace", "soon", "-max-kbps", "1", "-max-fps", "0", "-http-addr", "here", "-plugin-user", "who", "-plugin-options", "capture-wayland")
	for _, want := range []string{"advertise_addrs", "slots = 0", `grace = "soon"`, "max_kbps = 1", "max_fps = 0", "http_addr", "plugin_user", `plugin_options = "capture-wayland"`} {
		if code != 1 || !strings.Contains(errs, want) {
			t.Errorf("exit %d without %s: %s", code, want, errs)
		}
	}
	for _, capture := range []string{"", "capture-wayland", "capture-test,capture-wayland"} {
		code, _, errs = wavryRun("host", "-check-config", "-slots", "2", "-capture", capture)
		if code != 1 || !strings.Contains(errs, "slots = 2") || !strings.Contains(errs, "use slots = 1 and run a host with a desktop of its own for each") {
			t.Errorf("two people on one desktop with %q: exit %d, %s", capture, code, errs)
		}
	}
	code, _, errs = wavryRun("host", "-check-config", "-advertise-addrs", "0.0.0.0,here", "-config", writeFile(t, "bad.hcl", "colour = \"red\"\n"))
	if code != 1 || !strings.Contains(errs, "colour") {
		t.Errorf("exit %d: %s", code, errs)
	}
}
