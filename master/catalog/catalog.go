// Package catalog is where services find each other and where their health comes from: Consul (package consul), or nothing, when one process runs
// every role.
package catalog

import (
	"context"
	"errors"

	"github.com/wavry/fleet/master/health"
)

// Names of our services in the catalog.
const (
	ServiceMaster = "wavry-master"
	ServiceRelay  = "wavry-relay"
	ServiceHost   = "wavry-host"
)

// MetaID is the key of the machine's id in the metadata of each registration.
const MetaID = "id"

// MetaOps is the key of the host:port where operators look, in the metadata of each registration: that of the check unless the service says
// another. Metrics are there, while the service's own port may be for people, or UDP.
const MetaOps = "ops"

// Instance is one registered service.
type Instance struct {
	ID      string // our id, from MetaID
	Node    string
	Address string // host:port
	Meta    map[string]string
	Status  health.Status
}

// Update is one answer of a watch. Err is set when the catalog cannot be asked; Instances are then the last known ones.
type Update struct {
	Instances []Instance
	Err       error
}

// Registration is a service to register and keep registered.
type Registration struct {
	Name    string
	ID      string
	Address string // host:port
	Tags    []string
	// Meta is asked again and again; a change is registered without a new health check.
	Meta func() map[string]string
	// CheckURL is asked by the catalog every second; TLSSkipVerify says that its certificate need not be known to the catalog's agent.
	CheckURL      string
	TLSSkipVerify bool
}

// ErrSucceeded is the cause of a context (context.Cause) at whose end Keep leaves the registration to a successor.
var ErrSucceeded = errors.New("a successor goes on with the registration")

// Catalog is what services need of a service catalog.
type Catalog interface {
	// Watch calls update with each change of a service until ctx ends; then it returns nil. An unreachable catalog is an update with Err, not an error.
	Watch(ctx context.Context, service string, update func(Update)) error
	// Instances asks once.
	Instances(ctx context.Context, service string) ([]Instance, error)
	// Keep registers and keeps registered, also when the catalog forgets, until ctx ends; then it deregisters. A catalog that cannot be
	// reached is only logged.
	Keep(ctx context.Context, r Registration) error
	// RTT is the estimated round trip between two nodes in milliseconds, 0 when unknown.
	RTT(nodeA, nodeB string) float64
}
