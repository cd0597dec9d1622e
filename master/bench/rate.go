package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wavry/fleet/master/bench/etcdkv"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/masterclient"
)

// connections is how many clients share the load, on both sides.
const connections = 8

// valueSize is what a lease takes in the log.
const valueSize = 300

// sample is one measurement.
type sample struct {
	perSecond     float64
	p50, p99, max time.Duration
	errors        int64
	// caller and servers are processor time per call.
	caller, servers time.Duration
}

func (s sample) String() string {
	return fmt.Sprintf("%6.0f/s p50 %8s p99 %8s cpu %4d+%4d us", s.perSecond, round(s.p50), round(s.p99), s.caller.Microseconds(), s.servers.Microseconds())
}

func round(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }

// measure runs call from workers at once for the time and returns what came of it.
func measure(ctx context.Context, servers []*child, workers int, length time.Duration, call func(worker int) error) sample {
	ownBefore, serversBefore := ownCPU(), cpuOf(servers)
	var wait sync.WaitGroup
	var failed atomic.Int64
	latencies := make([][]time.Duration, workers)
	began := time.Now()
	for w := range workers {
		wait.Go(func() {
			for ctx.Err() == nil && time.Since(began) < length {
				at := time.Now()
				if err := call(w); err != nil {
					failed.Add(1)
					continue
				}
				latencies[w] = append(latencies[w], time.Since(at))
			}
		})
	}
	wait.Wait()
	took := time.Since(began)
	all := slices.Concat(latencies...)
	slices.Sort(all)
	if len(all) == 0 {
		return sample{errors: failed.Load()}
	}
	n := time.Duration(len(all))
	return sample{
		caller: (ownCPU() - ownBefore) / n, servers: (cpuOf(servers) - serversBefore) / n,
		perSecond: float64(len(all)) / took.Seconds(), p50: all[len(all)/2], p99: all[len(all)*99/100], max: all[len(all)-1], errors: failed.Load(),
	}
}

func rate(ctx context.Context, o options, dir string) error {
	m, err := startMasters(ctx, dir, o.profile)
	if err != nil {
		return err
	}
	defer m.stop()
	e, err := startEtcd(ctx, dir)
	if err != nil {
		return err
	}
	defer e.stop()
	issue, closeMaster, err := admitter(m)
	if err != nil {
		return err
	}
	defer closeMaster()
	put, closeEtcd, err := putter(ctx, e)
	if err != nil {
		return err
	}
	defer closeEtcd()
	length := time.Duration(o.seconds * float64(time.Second))
	measure(ctx, nil, 16, time.Second, func(w int) error { return issue(ctx, w) }) // warm up both
	measure(ctx, nil, 16, time.Second, func(w int) error { return put(ctx, w) })
	var results [4][]sample
	for round := range o.rounds {
		for i, n := range []int{o.inFlight, 1} {
			a := measure(ctx, m.children(), n, length, func(w int) error { return issue(ctx, w) })
			b := measure(ctx, e.servers, n, length, func(w int) error { return put(ctx, w) })
			results[2*i], results[2*i+1] = append(results[2*i], a), append(results[2*i+1], b)
			fmt.Printf("round %d, %3d in flight  master %s | etcd %s | ratio of rates %.2f, of p50 %.2f\n", round+1, n, a, b, a.perSecond/b.perSecond, ms(a.p50)/ms(b.p50))
			if a.errors+b.errors > 0 {
				return fmt.Errorf("errors: master %d, etcd %d", a.errors, b.errors)
			}
		}
	}
	report(o, results)
	return nil
}

func report(o options, results [4][]sample) {
	rates := func(s []sample) []float64 { return pick(s, func(s sample) float64 { return s.perSecond }) }
	p50 := func(s []sample) []float64 { return pick(s, func(s sample) float64 { return ms(s.p50) }) }
	p99 := func(s []sample) []float64 { return pick(s, func(s sample) float64 { return ms(s.p99) }) }
	fmt.Printf("\nmedians of %d rounds (lowest-highest)\n", o.rounds)
	fmt.Printf("  %d in flight: master %s /s, etcd %s /s, ratio %s\n", o.inFlight, spread(rates(results[0]), 0), spread(rates(results[1]), 0), spread(ratios(rates(results[0]), rates(results[1])), 2))
	fmt.Printf("  %d in flight: master p99 %s ms, etcd p99 %s ms\n", o.inFlight, spread(p99(results[0]), 1), spread(p99(results[1]), 1))
	fmt.Printf("  1 in flight: master p50 %s ms, etcd p50 %s ms, ratio %s\n", spread(p50(results[2]), 2), spread(p50(results[3]), 2), spread(ratios(p50(results[2]), p50(results[3])), 2))
}

func pick(samples []sample, f func(sample) float64) (list []float64) {
	for _, s := range samples {
		list = append(list, f(s))
	}
	return list
}

func ratios(a, b []float64) (list []float64) {
	for i := range a {
		list = append(list, a[i]/b[i])
	}
	return list
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func spread(values []float64, digits int) string {
	slices.Sort(values)
	return fmt.Sprintf("%.*f (%.*f-%.*f)", digits, values[len(values)/2], digits, values[0], digits, values[len(values)-1])
}

// admitter returns a call that asks for one desktop through the API, as a gateway does, over a few connections.
func admitter(m *masters) (func(context.Context, int) error, func(), error) {
	var clients []*masterclient.Client
	for range connections {
		c, err := m.client("gateway")
		if err != nil {
			return nil, nil, err
		}
		clients = append(clients, c)
	}
	call := func(ctx context.Context, worker int) error {
		request := &masterapi.AdmitRequest{ViewerKey: viewerKey, RequestId: rand.Text(), Login: "somebody@example.org", ViewerAddress: "203.0.113.7", Pool: "default"}
		_, err := clients[worker%connections].Sessions().Admit(ctx, request)
		return err
	}
	return call, func() {
		for _, c := range clients {
			c.Close()
		}
	}, nil
}

// putter returns a call that puts one value of a lease's size under a new key, over as many connections.
func putter(ctx context.Context, e *etcds) (func(context.Context, int) error, func(), error) {
	var clients []etcdkv.KVClient
	var closers []func()
	if err := e.findLeader(ctx); err != nil {
		return nil, nil, err
	}
	for range connections {
		c, stop, err := e.client()
		if err != nil {
			return nil, nil, err
		}
		clients, closers = append(clients, c), append(closers, stop)
	}
	value := make([]byte, valueSize)
	_, _ = rand.Read(value) // crypto/rand never fails: it ends the process instead
	call := func(ctx context.Context, worker int) error {
		_, err := clients[worker%connections].Put(ctx, &etcdkv.PutRequest{Key: []byte(rand.Text()), Value: value})
		return err
	}
	return call, func() {
		for _, stop := range closers {
			stop()
		}
	}, nil
}

// viewerKey is the thumbprint of a key that some page would hold.
const viewerKey = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
