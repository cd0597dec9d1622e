package relay

import (
	"crypto/ecdh"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/wavry/fleet/master/catalog"
)

// Config is all a relay is told at its start.
type Config struct {
	// ID names the relay in leases, Consul and the master. Required, at most 64 bytes.
	ID string
	// Region is where it stands, in the operator's words. May be empty.
	Region string
	// Bind is the address of all UDP sockets. An unspecified IPv6 address serves both families. On a machine with several addresses
	// give the one that hosts and viewers use, or answers may leave from another.
	Bind netip.Addr
	// ControlPort and FirstMediaPort are UDP ports; media ports are consecutive. 0 lets the kernel choose (tests).
	ControlPort, FirstMediaPort uint16
	// MediaPorts is the size of the pool: how many circuits of one host, and waiting for viewers behind one address, fit at once.
	MediaPorts int
	// Advertise is the address hosts and viewers reach it at. Required unless Bind is a specified address.
	Advertise netip.Addr
	// HTTPAddr serves /ready, /healthz and /metrics. Empty: none.
	HTTPAddr string
	// PrivateKey authenticates the relay to hosts; LoadKey makes one that stays. Required.
	PrivateKey *ecdh.PrivateKey
	// MaxCircuits bounds the table; below 1 kB each.
	MaxCircuits int
	// DefaultRate and MaxRate are bits per second of one lease, both directions together: for leases that say nothing, and as a cap.
	DefaultRate, MaxRate uint64
	// CapacityBits is what the machine may forward per second; close to it the relay is not ready for more. 0: no such limit.
	CapacityBits uint64
	// Workers is the number of data path goroutines; 0: one per core.
	Workers int
	// Verifiers is the number of goroutines that check signatures; 0: half the cores, at least one.
	Verifiers int
	// DataPath is auto, fast (Linux) or portable.
	DataPath string
	// BusyPoll is how long a worker goes on looking at its sockets without sleeping after the last packet it forwarded: it takes up to
	// one core per worker while there is traffic and spares each packet a wake-up. 0: workers sleep at once. Fast path only.
	BusyPoll time.Duration
	// DrainTimeout is how long a drain waits for running circuits before Run returns.
	DrainTimeout time.Duration
	// HandoverPath is a unix socket at which a successor on the same node takes over sockets and circuits. Empty: no hand-over.
	HandoverPath string
	// Catalog is where the relay registers itself, and CheckURL where the catalog finds /ready, such as http://10.0.0.7:7479/ready. A nil
	// Catalog registers nowhere.
	Catalog  catalog.Catalog
	CheckURL string
	// Version is reported.
	Version string

	// Now is the wall clock, by which leases begin and end; nil: time.Now.
	Now func() time.Time

	Control  Control               // required
	Logger   *slog.Logger          // nil discards
	Registry prometheus.Registerer // nil keeps the metrics private
}

// Names of data paths.
const (
	PathAuto     = "auto"
	PathFast     = "fast"
	PathPortable = "portable"
)

// DefaultConfig is complete but for ID, PrivateKey and Control.
func DefaultConfig() Config {
	return Config{
		Bind: netip.IPv6Unspecified(), ControlPort: 7480, FirstMediaPort: 7481, MediaPorts: 64, HTTPAddr: "127.0.0.1:7479",
		MaxCircuits: 10_000, DefaultRate: 50_000_000, MaxRate: 500_000_000, DataPath: PathAuto, DrainTimeout: 30 * time.Second,
		Version: "dev",
	}
}

// Validate reports everything that is wrong with c, each problem naming key, value and rule.
func (c Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.ID != "" && len(c.ID) <= 64, "id = %q: must have 1 to 64 bytes", c.ID)
	check(len(c.Region) <= 64, "region = %q: must have at most 64 bytes", c.Region)
	check(c.Bind.IsValid(), "bind_addr: must be an IP address")
	check(c.MediaPorts >= 1 && c.MediaPorts <= maxMediaPorts, "media_ports = %d: must be 1 to %d", c.MediaPorts, maxMediaPorts)
	last := int(c.FirstMediaPort) + c.MediaPorts - 1
	check(c.FirstMediaPort == 0 || last <= 65535, "first_media_port = %d: the last media port would be %d", c.FirstMediaPort, last)
	overlap := c.ControlPort != 0 && c.FirstMediaPort != 0 && c.ControlPort >= c.FirstMediaPort && int(c.ControlPort) <= last
	check(!overlap, "control_port = %d: lies among the media ports %d-%d", c.ControlPort, c.FirstMediaPort, last)
	check(routable(c.Advertise) || (!c.Advertise.IsValid() && routable(c.Bind)),
		"advertise_addr = %q: must be the address hosts and viewers reach", c.Advertise)
	check(c.PrivateKey != nil, "key_file: no private key")
	check(c.MaxCircuits >= 1 && c.MaxCircuits <= 1_000_000, "max_circuits = %d: must be 1 to 1000000", c.MaxCircuits)
	check(c.DefaultRate >= minRate && c.DefaultRate <= c.MaxRate, "default_rate = %d: must be %d to max_rate = %d", c.DefaultRate, minRate, c.MaxRate)
	check(c.MaxRate <= maxRate, "max_rate = %d: must be at most %d", c.MaxRate, uint64(maxRate))
	check(c.Workers >= 0 && c.Workers <= maxWorkers, "workers = %d: must be 0 to %d", c.Workers, maxWorkers)
	check(c.Verifiers >= 0 && c.Verifiers <= maxWorkers, "verifiers = %d: must be 0 to %d", c.Verifiers, maxWorkers)
	check(c.DataPath == PathAuto || c.DataPath == PathFast || c.DataPath == PathPortable,
		"data_path = %q: must be %s, %s or %s", c.DataPath, PathAuto, PathFast, PathPortable)
	check(c.BusyPoll >= 0 && c.BusyPoll <= maxBusyPoll, "busy_poll = %s: must be 0 to %s", c.BusyPoll, maxBusyPoll)
	check(c.BusyPoll == 0 || c.DataPath != PathPortable, "busy_poll = %s: data_path %s cannot poll; must be 0", c.BusyPoll, PathPortable)
	check(c.DrainTimeout >= 0, "drain_timeout = %s: must not be negative", c.DrainTimeout)
	check(c.Control != nil, "control: the relay needs a master or a policy file")
	return errors.Join(errs...)
}

const (
	minRate = 100_000         // bits per second; below it not even audio passes
	maxRate = 400_000_000_000 // bits per second; where the fixed point of a cost per byte ends
)

func routable(a netip.Addr) bool { return a.IsValid() && !a.IsUnspecified() }

// advertised is the address to publish.
func (c Config) advertised() netip.Addr {
	if c.Advertise.IsValid() {
		return c.Advertise
	}
	return c.Bind
}

func (c Config) workers() int {
	if c.Workers > 0 {
		return c.Workers
	}
	return min(runtime.GOMAXPROCS(0), maxWorkers)
}

func (c Config) verifiers() int {
	if c.Verifiers > 0 {
		return c.Verifiers
	}
	return max(1, runtime.GOMAXPROCS(0)/2)
}
