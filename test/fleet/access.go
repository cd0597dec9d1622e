package fleet

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	consul "github.com/hashicorp/consul/api"
	nomad "github.com/hashicorp/nomad/api"
)

// authMethod is how Nomad's workloads sign in to Consul.
const authMethod = "nomad-workloads"

// namespace is where the jobs run, as by their default.
const namespace = "wavry"

// secrets of one fleet. They reach tasks through Nomad Variables only.
type secrets struct {
	consul      string // management token of Consul
	nomadConsul string // Consul token of Nomad's agents
	password    string // of the database
}

func uuid() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // crypto/rand never fails: it ends the process instead
	h := hex.EncodeToString(b[:])
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

func (f *Fleet) makeSecrets() error {
	f.secrets = secrets{consul: uuid(), nomadConsul: uuid(), password: rand.Text()}
	for _, args := range [][]string{
		{"tls", "ca", "-dir", f.dir}, {"tls", "cert", "-dir", f.dir, "master/fleet"}, {"tls", "cert", "-dir", f.dir, "operator/fleet"},
	} {
		if _, err := f.wavry(context.Background(), nil, args...); err != nil {
			return err
		}
	}
	return nil
}

// wavry runs a command of ours to its end.
func (f *Fleet) wavry(ctx context.Context, environ []string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(f.dir, "bin", "wavry"), args...)
	cmd.Env = append(plainEnviron(), environ...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("wavry %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// makePolicies gives Consul the policies of jobs/policies, and Nomad's agents their token.
func (f *Fleet) makePolicies() error {
	files, err := filepath.Glob(filepath.Join(f.cfg.Root, "jobs", "policies", "*.hcl"))
	if err != nil {
		return err
	}
	for _, path := range files {
		rules, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name := strings.TrimSuffix(filepath.Base(path), ".hcl")
		if _, _, err := f.Consul.ACL().PolicyCreate(&consul.ACLPolicy{Name: name, Rules: string(rules)}, nil); err != nil {
			return fmt.Errorf("policy %s: %w", name, err)
		}
	}
	_, _, err = f.Consul.ACL().TokenCreate(&consul.ACLToken{SecretID: f.secrets.nomadConsul, Policies: []*consul.ACLLink{{Name: "nomad-agent"}}}, nil)
	return err
}

// setUpAccess lets workloads sign in to Consul by their Nomad identity, and hands out secrets as Nomad Variables.
func (f *Fleet) setUpAccess(context.Context) error {
	if _, err := f.Nomad.Namespaces().Register(&nomad.Namespace{Name: namespace}, nil); err != nil {
		return fmt.Errorf("namespace: %w", err)
	}
	_, _, err := f.Consul.ACL().AuthMethodCreate(&consul.ACLAuthMethod{
		Name: authMethod, Type: "jwt",
		Config: map[string]any{
			"JWKSURL": f.jwksURL(), "JWTSupportedAlgs": []string{"RS256"}, "BoundAudiences": []string{"consul.io"},
			"ClaimMappings": map[string]string{"nomad_namespace": "nomad_namespace", "nomad_job_id": "nomad_job_id", "nomad_task": "nomad_task"},
		},
	}, nil)
	if err != nil {
		return fmt.Errorf("auth method: %w", err)
	}
	for policy, job := range map[string]string{
		"wavry-master": "wavry-master", "wavry-gateway": "wavry-gateway", "wavry-relay": "wavry-relay.*", "wavry-host": "wavry-host-.*", "wavry-prometheus": "wavry-prometheus",
	} {
		task := strings.TrimPrefix(policy, "wavry-")
		_, _, err := f.Consul.ACL().BindingRuleCreate(&consul.ACLBindingRule{
			AuthMethod: authMethod, BindType: consul.BindingRuleBindTypePolicy, BindName: policy,
			Selector: fmt.Sprintf(`value.nomad_namespace == "wavry" and value.nomad_task == %q and value.nomad_job_id matches "^%s$"`, task, job),
		}, nil)
		if err != nil {
			return fmt.Errorf("binding rule %s: %w", policy, err)
		}
	}
	return f.putVariables()
}

func (f *Fleet) putVariables() error {
	pem := map[string]string{}
	for key, file := range map[string]string{"ca": "ca.pem", "cert": "master-fleet.pem", "key": "master-fleet-key.pem"} {
		text, err := os.ReadFile(filepath.Join(f.dir, file))
		if err != nil {
			return err
		}
		pem[key] = string(text)
	}
	ca := map[string]string{"ca": pem["ca"]}
	var kek, gatewayKey [32]byte
	_, _ = rand.Read(kek[:])        // crypto/rand never fails
	_, _ = rand.Read(gatewayKey[:]) // likewise
	for job, items := range map[string]map[string]string{
		"wavry-master":     {"ca": pem["ca"], "cert": pem["cert"], "key": pem["key"], "kek": hex.EncodeToString(kek[:])},
		"wavry-gateway":    {"ca": pem["ca"], "dsn": f.dsn(), "key": base64.StdEncoding.EncodeToString(gatewayKey[:])},
		"wavry-postgres":   {"password": f.secrets.password},
		"wavry-backup":     {"ca": pem["ca"], "dsn": f.dsn()},
		"wavry-relay":      ca,
		"wavry-host-sway":  ca,
		"wavry-host-gnome": ca,
		"wavry-host-kde":   ca,
	} {
		v := nomad.NewVariable("nomad/jobs/" + job)
		v.Items = items
		if _, _, err := f.Nomad.Variables().Create(v, nil); err != nil {
			return fmt.Errorf("variable of %s: %w", job, err)
		}
	}
	return nil
}

func (f *Fleet) dsn() string {
	return fmt.Sprintf("postgres://wavry:%s@127.0.0.1:%d/postgres?sslmode=disable", f.secrets.password, f.ports.postgres)
}
