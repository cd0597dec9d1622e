package rig

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/wavry/fleet/master/identity"
	"github.com/wavry/fleet/master/masterclient"
)

// Access is the environment in which operators' commands reach the masters as operator/op.
func (c *Cluster) Access() []string {
	var addrs []string
	for _, id := range []string{"m1", "m2", "m3"} {
		addrs = append(addrs, c.members[id].http)
	}
	file := func(name string) string { return filepath.Join(c.dir, name) }
	return []string{
		"WAVRY_ADDR=" + strings.Join(addrs, ","), "WAVRY_CACERT=" + file("ca.pem"),
		"WAVRY_CLIENT_CERT=" + file("operator-op.pem"), "WAVRY_CLIENT_KEY=" + file("operator-op-key.pem"),
	}
}

// Exit runs a command as an operator's shell would, with further environment, and returns what it printed and its exit code.
func (c *Cluster) Exit(environ []string, args ...string) (stdout, stderr string, code int) {
	c.t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(Bin(c.t, "wavry"), args...)
	cmd.Env = append(append(cmd.Environ(), c.Access()...), environ...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		c.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// Master is a client of the masters as operator/op. It closes with the test.
func (c *Cluster) Master() *masterclient.Client {
	c.t.Helper()
	env := map[string]string{}
	for _, pair := range c.Access() {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value
	}
	source, err := identity.Files{Authority: env["WAVRY_CACERT"], Certificate: env["WAVRY_CLIENT_CERT"], Key: env["WAVRY_CLIENT_KEY"]}.Load()
	if err != nil {
		c.t.Fatal(err)
	}
	client, err := masterclient.New(masterclient.Config{Addresses: strings.Split(env["WAVRY_ADDR"], ","), TLS: source.Client(identity.RoleMaster)})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(client.Close)
	return client
}

// Sum adds the samples of a metric of a member that carry all the given label texts, such as reason="expired".
func (c *Cluster) Sum(id, metric string, labels ...string) (sum float64) {
	c.t.Helper()
	response, err := http.Get("http://" + c.members[id].http + "/metrics")
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		wanted := strings.HasPrefix(name, metric+"{") || name == metric
		for _, l := range labels {
			wanted = wanted && strings.Contains(name, l)
		}
		if n, err := strconv.ParseFloat(value, 64); wanted && err == nil {
			sum += n
		}
	}
	return sum
}
