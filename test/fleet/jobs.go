package fleet

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	consul "github.com/hashicorp/consul/api"
)

// nomadCLI runs Nomad's command against the fleet.
func (f *Fleet) nomadCLI(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(f.cfg.Engines, "nomad"), args...)
	cmd.Env = append(plainEnviron(), "NOMAD_ADDR="+f.nomadAddr(), "NOMAD_NAMESPACE="+namespace)
	cmd.Dir = f.cfg.Root // as jobs/README.md says
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("nomad %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// jobArgs are a job file with its variables; bin_dir goes to those that have it.
func (f *Fleet) jobArgs(file string, vars []string) []string {
	var args []string
	if file != "postgres" && file != "prometheus" {
		vars = append([]string{"bin_dir=" + filepath.Join(f.dir, "bin")}, vars...) // the later of two holds
	}
	switch file {
	case "master", "gateway", "relay", "backup": // a system user that Debian has
		vars = append([]string{"user=backup", "uid=34"}, vars...)
	}
	for _, v := range vars {
		args = append(args, "-var", v)
	}
	return append(args, filepath.Join("jobs", file+".nomad.hcl"))
}

// Run submits jobs/FILE.nomad.hcl with variables, NAME=VALUE, and does not wait for it.
func (f *Fleet) Run(ctx context.Context, file string, vars ...string) error {
	_, err := f.nomadCLI(ctx, append([]string{"job", "run", "-detach"}, f.jobArgs(file, vars)...)...)
	return err
}

// Validate and plan a job file without running it. What Nomad says is returned.
func (f *Fleet) Validate(ctx context.Context, file string, vars ...string) (string, error) {
	return f.nomadCLI(ctx, append([]string{"job", "validate"}, f.jobArgs(file, vars)...)...)
}

// Plan asks the scheduler what it would do. Differences, which the command reports by code 1, are no error.
func (f *Fleet) Plan(ctx context.Context, file string, vars ...string) (string, error) {
	out, err := f.nomadCLI(ctx, append([]string{"job", "plan"}, f.jobArgs(file, vars)...)...)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return out, nil
	}
	return out, err
}

// Passing waits until Consul lists count healthy instances of a service.
func (f *Fleet) Passing(ctx context.Context, service string, count int) error {
	return f.Wait(ctx, fmt.Sprintf("%d of %s pass in Consul", count, service), func() bool {
		entries, err := f.Instances(service)
		return err == nil && len(entries) == count
	})
}

// Instances are the healthy ones of a service in Consul.
func (f *Fleet) Instances(service string) ([]*consul.ServiceEntry, error) {
	entries, _, err := f.Consul.Health().Service(service, "", true, nil)
	return entries, err
}

func (f *Fleet) addresses(service string) ([]string, error) {
	entries, err := f.Instances(service)
	if err != nil {
		return nil, err
	}
	var list []string
	for _, e := range entries {
		list = append(list, fmt.Sprintf("%s:%d", e.Service.Address, e.Service.Port))
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("no healthy %s in Consul", service)
	}
	return list, nil
}

// Prometheus is its URL.
func (f *Fleet) Prometheus() (string, error) {
	list, _, err := f.Nomad.Services().Get("prometheus", nil)
	if err != nil {
		return "", err
	}
	if len(list) == 0 {
		return "", errors.New("no prometheus in Nomad's catalog")
	}
	return fmt.Sprintf("http://%s:%d", list[0].Address, list[0].Port), nil
}

func (f *Fleet) prometheusReady() bool {
	base, err := f.Prometheus()
	if err != nil {
		return false
	}
	answer, err := http.Get(base + "/-/ready")
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// Invite makes a one-time link that signs somebody in at the gateway of a node.
func (f *Fleet) Invite(ctx context.Context, node, name, role string) (string, error) {
	gateways, err := f.Instances("wavry-gateway")
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(gateways, func(e *consul.ServiceEntry) bool { return e.Service.Meta["gateway_id"] == "wavry-gateway@"+node })
	if i < 0 {
		return "", fmt.Errorf("no healthy gateway on %s", node)
	}
	address := fmt.Sprintf("%s:%d", gateways[i].Service.Address, gateways[i].Service.Port)
	out, err := f.wavry(ctx, []string{"WAVRY_GATEWAY_STORE_DRIVER=postgres", "WAVRY_GATEWAY_STORE_DSN_SECRET=" + f.dsn()},
		"gateway", "invite", "-name", name, "-role", role, "-public-url", "http://"+address)
	if err != nil {
		return "", err
	}
	for word := range strings.FieldsSeq(out) {
		if strings.Contains(word, "#link=") {
			return word, nil
		}
	}
	return "", fmt.Errorf("no link in %q", out)
}

// OperatorEnviron is the environment in which operators' commands reach this fleet.
func (f *Fleet) OperatorEnviron() ([]string, error) {
	masters, err := f.addresses("wavry-master")
	if err != nil {
		return nil, err
	}
	return []string{
		"WAVRY_ADDR=" + strings.Join(masters, ","), "WAVRY_CACERT=" + filepath.Join(f.dir, "ca.pem"),
		"WAVRY_CLIENT_CERT=" + filepath.Join(f.dir, "operator-fleet.pem"), "WAVRY_CLIENT_KEY=" + filepath.Join(f.dir, "operator-fleet-key.pem"),
		"NOMAD_ADDR=" + f.nomadAddr(), "NOMAD_NAMESPACE=" + namespace, "CONSUL_HTTP_ADDR=" + f.consulAddr(0), "CONSUL_HTTP_TOKEN=" + f.secrets.consul,
	}, nil
}

// Operator runs an operator's command.
func (f *Fleet) Operator(ctx context.Context, args ...string) (string, error) {
	environ, err := f.OperatorEnviron()
	if err != nil {
		return "", err
	}
	return f.wavry(ctx, environ, args...)
}

// Backups is the folder that the backup job writes to.
func (f *Fleet) Backups() string { return filepath.Join(f.dir, "backup") }
