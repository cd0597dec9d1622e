// Package nomadidentity tells who a caller is by its Nomad workload identity: a JWT that Nomad signs for one task of one allocation,
// with an end, and that is checked here against Nomad's published keys. No secret is shared and none is stored.
package nomadidentity

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/wavry/fleet/master/identity"
)

// DefaultAudience is what a job writes into identity { aud = [...] }.
const DefaultAudience = "wavry"

// keyTimeout bounds one fetch of Nomad's keys.
const keyTimeout = 5 * time.Second

// DefaultNamespace is that of the jobs in jobs/: who may submit jobs there may call them what they like.
const DefaultNamespace = "wavry"

// DefaultMapping fits the jobs of jobs/: the instances of a job are named JOB@NODE.
func DefaultMapping() []string {
	return []string{
		"wavry-gateway/gateway=gateway/{job}@*",
		"wavry-relay*/relay=relay/{job}@*",
		"wavry-host-*/host=host/{job}@*",
		"wavry-backup/backup=backup/{job}",
	}
}

// Config says whose identities hold, and for what.
type Config struct {
	JWKSURL   string   // Nomad's /.well-known/jwks.json
	Audience  string   // that every token must name
	Namespace string   // of the fleet's jobs
	Mapping   []string // JOB/TASK=ROLE/NAME; the first that fits decides
	Client    *http.Client
}

// Authenticator implements identity.Authenticator.
type Authenticator struct {
	cfg      Config
	rules    []rule
	verifier *oidc.IDTokenVerifier
}

type rule struct {
	job, task string // job is a pattern of path.Match
	role      identity.Role
	name      string
}

// New reads the mapping and reports every problem; nothing is asked yet.
func New(cfg Config) (*Authenticator, error) {
	var problems []error
	if u, err := url.Parse(cfg.JWKSURL); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		problems = append(problems, fmt.Errorf("nomad_jwks_url = %q: must be http(s)://ADDRESS/.well-known/jwks.json", cfg.JWKSURL))
	}
	if cfg.Audience == "" {
		problems = append(problems, errors.New("nomad_audience: empty, and a token made for somebody else would be taken"))
	}
	a := &Authenticator{cfg: cfg}
	for _, text := range cfg.Mapping {
		r, err := parseRule(text)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		a.rules = append(a.rules, r)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	if cfg.Client == nil {
		cfg.Client = &http.Client{Timeout: keyTimeout}
	}
	// The key set fetches with the client of this context; its end would end all fetches.
	keys := oidc.NewRemoteKeySet(oidc.ClientContext(context.Background(), cfg.Client), cfg.JWKSURL)
	// Nomad sets an issuer only when its servers are configured with one; its keys are what we trust.
	a.verifier = oidc.NewVerifier("", keys, &oidc.Config{ClientID: cfg.Audience, SkipIssuerCheck: true, SupportedSigningAlgs: []string{oidc.RS256, oidc.EdDSA}})
	return a, nil
}

func parseRule(text string) (rule, error) {
	workload, who, ok := strings.Cut(text, "=")
	job, task, ok2 := strings.Cut(workload, "/")
	if !ok || !ok2 || job == "" || task == "" {
		return rule{}, fmt.Errorf("nomad_identities: %q must be JOB/TASK=ROLE/NAME", text)
	}
	if _, err := path.Match(job, ""); err != nil {
		return rule{}, fmt.Errorf("nomad_identities: %q: job: %w", text, err)
	}
	id, err := identity.Parse(who)
	if err != nil {
		return rule{}, fmt.Errorf("nomad_identities: %q: %w", text, err)
	}
	return rule{job: job, task: task, role: id.Role, name: id.Name}, nil
}

// claims are those of Nomad's tokens that say which workload it is.
type claims struct {
	Namespace string `json:"nomad_namespace"`
	Job       string `json:"nomad_job_id"`
	Task      string `json:"nomad_task"`
	// Allocation tells the instances of a job from each other.
	Allocation string `json:"nomad_allocation_id"`
}

// Authenticate implements identity.Authenticator. A bearer token that is no JWT is left to others.
func (a *Authenticator) Authenticate(r *http.Request) (identity.Identity, error) {
	token, ok := identity.Bearer(r.Header)
	if !ok || strings.Count(token, ".") != 2 {
		return identity.Identity{}, identity.ErrNoCredentials
	}
	verified, err := a.verifier.Verify(r.Context(), token)
	if err != nil {
		return identity.Identity{}, fmt.Errorf("%w: workload identity: %w", identity.ErrBadCredentials, err)
	}
	var c claims
	if err := verified.Claims(&c); err != nil {
		return identity.Identity{}, fmt.Errorf("%w: workload identity: %w", identity.ErrBadCredentials, err)
	}
	return a.who(c)
}

func (a *Authenticator) who(c claims) (identity.Identity, error) {
	// Nomad lets a job be called almost anything, and names are what rights go by. (A periodic run's token names the job itself.)
	if !plainJob(c.Job) {
		return identity.Identity{}, fmt.Errorf("%w: job %q: only letters, digits, dash, underscore and dot make a name here", identity.ErrBadCredentials, c.Job)
	}
	for _, r := range a.rules {
		fits, err := path.Match(r.job, c.Job)
		if err == nil && fits && r.task == c.Task && c.Namespace == a.cfg.Namespace {
			return identity.Identity{Role: r.role, Name: strings.ReplaceAll(r.name, "{job}", c.Job), Instance: c.Allocation}, nil
		}
	}
	return identity.Identity{}, fmt.Errorf("%w: workload %s/%s in namespace %s is nobody here; see nomad_identities", identity.ErrBadCredentials, c.Job, c.Task, c.Namespace)
}

// plainJob reports whether a job's name can be one segment of an identity: it holds neither the separator nor a wildcard, nor a slash, which would
// make it look like another job's child.
func plainJob(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.')
	})
}
