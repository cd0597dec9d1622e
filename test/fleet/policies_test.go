//go:build integration

package fleet_test

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
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
