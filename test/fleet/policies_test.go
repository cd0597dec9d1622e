//go:build integration

package fleet_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	consul "github.com/hashicorp/consul/api"
)

// policies proves that a token with a policy of jobs/policies cannot do what its owner has no business with.
func (r *rigged) policies(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "..", "jobs", "policies", "*.hcl"))
	r.must(err)
	services := []string{"wavry-master", "wavry-gateway", "wavry-relay", "wavry-host", "wavry-postgres", "vault"}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".hcl")
		token, _, err := r.Consul.ACL().TokenCreate(&consul.ACLToken{Policies: []*consul.ACLLink{{Name: name}}}, nil)
		r.must(err)
		as := &consul.WriteOptions{Token: token.SecretID}
		refused := func(what string, err error) {
			t.Helper()
			if err == nil || !strings.Contains(err.Error(), "Permission denied") {
				t.Errorf("%s may %s: %v", name, what, err)
			}
		}
		for _, service := range services {
			if service == name {
				continue
			}
			_, err := r.Consul.Catalog().Register(&consul.CatalogRegistration{
				Node: "forged", Address: "192.0.2.1", SkipNodeUpdate: true, Service: &consul.AgentService{Service: service, Port: 1},
			}, as)
			refused("register "+service, err)
		}
		_, err = r.Consul.KV().Put(&consul.KVPair{Key: "x"}, as)
		refused("write keys", err)
		_, _, err = r.Consul.ACL().TokenList(&consul.QueryOptions{Token: token.SecretID})
		refused("list tokens", err)
		_, err = r.Consul.Catalog().Register(&consul.CatalogRegistration{Node: "forged", Address: "192.0.2.1"}, as)
		refused("register nodes", err)
		found, _, err := r.Consul.Catalog().Service("consul", "", &consul.QueryOptions{Token: token.SecretID})
		if r.must(err); len(found) > 0 && name != "nomad-agent" {
			t.Errorf("%s sees services that are not ours", name)
		}
	}
}

// secrets proves that no secret is in a job, and that each task has a token for Consul of its own, with one policy: besides those of
// the operators and of Nomad's agents there is no other.
func (r *rigged) secrets(t *testing.T) {
	tokens, _, err := r.Consul.ACL().TokenList(nil)
	r.must(err)
	static, workloads := 0, map[string]int{}
	for _, token := range tokens {
		switch {
		case token.AuthMethod == "":
			static++
		case len(token.Policies) != 1:
			t.Errorf("a workload's token has the policies %v", token.Policies)
		default:
			workloads[token.Policies[0].Name]++
		}
	}
	if static != 3 { // management, anonymous, Nomad's agents
		t.Errorf("%d static tokens", static)
	}
	for policy, tasks := range map[string]int{"wavry-master": 3, "wavry-gateway": 3, "wavry-relay": 2, "wavry-host": 1, "wavry-prometheus": 1} {
		if workloads[policy] < tasks {
			t.Errorf("%d tokens with policy %s for %d tasks", workloads[policy], policy, tasks)
		}
	}
	variables, _, err := r.Nomad.Variables().List(nil)
	r.must(err)
	jobs, _, err := r.Nomad.Jobs().List(nil)
	r.must(err)
	for _, v := range variables {
		items, _, err := r.Nomad.Variables().GetVariableItems(v.Path, nil)
		r.must(err)
		for _, j := range jobs {
			job, _, err := r.Nomad.Jobs().Info(j.ID, nil)
			r.must(err)
			text, err := json.Marshal(job)
			r.must(err)
			for key, value := range items {
				quoted, err := json.Marshal(value)
				r.must(err)
				if bytes.Contains(text, bytes.Trim(quoted, `"`)) {
					t.Errorf("job %s holds the %s of %s", j.ID, key, v.Path)
				}
			}
		}
	}
}

// ordinaryUsers proves that services are no root, and that what Nomad gives a task can be read by that task's user alone.
func (r *rigged) ordinaryUsers(t *testing.T) {
	environ, err := r.OperatorEnviron()
	r.must(err)
	dir := filepath.Dir(strings.TrimPrefix(environ[1], "WAVRY_CACERT="))
	files, err := filepath.Glob(filepath.Join(dir, "*", "n", "alloc", "*", "*", "secrets", "*"))
	r.must(err)
	seen := 0
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil || !info.Mode().IsRegular() || filepath.Base(file) == ".nomad-mount" {
			continue // gone meanwhile, the task API's socket, or Nomad's empty mark
		}
		seen++
		forbidden := os.FileMode(0o077)
		if info.Sys().(*syscall.Stat_t).Gid == 0 {
			forbidden = 0o037 // root's group may read Consul's tokens
		}
		if info.Mode().Perm()&forbidden != 0 {
			t.Errorf("%s has mode %o", file, info.Mode().Perm())
		}
	}
	if seen < 10 {
		t.Errorf("only %d secret files: is this where they are?", seen)
	}
	running := map[string]int{}
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	r.must(err)
	for _, p := range processes {
		text, err := os.ReadFile(p)
		args := strings.Split(string(text), "\x00")
		if err != nil || len(args) < 2 || args[0] != filepath.Join(dir, "bin", "wavry") {
			continue // it ended, or is somebody else's
		}
		info, err := os.Stat(filepath.Dir(p))
		if err != nil {
			continue
		}
		role := args[1]
		running[role]++
		if root := info.Sys().(*syscall.Stat_t).Uid == 0; root != (role == "host" || role == "desktop") {
			t.Errorf("wavry %s runs as uid %d", role, info.Sys().(*syscall.Stat_t).Uid)
		}
	}
	if running["master"] != 3 || running["gateway"] != 3 || running["relay"] != 2 {
		t.Errorf("running: %v", running)
	}
}
