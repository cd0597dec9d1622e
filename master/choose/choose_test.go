package choose

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// TestPickSpreads proves that power of two choices keeps the fullest of 100 hosts close to the mean, and that an ineligible one is never picked.
func TestPickSpreads(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	ids, used := make([]string, 100), map[string]int{}
	for i := range ids {
		ids[i] = fmt.Sprintf("h%d", i)
	}
	for range 5000 {
		id, ok := Pick(r, ids, func(id string) bool { return id != "h7" }, func(id string) float64 { return float64(used[id]) })
		if !ok || id == "h7" {
			t.Fatalf("picked %q, %v", id, ok)
		}
		used[id]++
	}
	for id, n := range used {
		if n > 60 || n < 40 {
			t.Errorf("%s got %d of a mean of 50", id, n)
		}
	}
}

// TestPickFindsTheLast proves that the only eligible one of many is found, and that none is said when there is none.
func TestPickFindsTheLast(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 1))
	ids := make([]string, 10000)
	for i := range ids {
		ids[i] = fmt.Sprint(i)
	}
	cost := func(string) float64 { return 0 }
	if id, ok := Pick(r, ids, func(id string) bool { return id == "9999" }, cost); !ok || id != "9999" {
		t.Errorf("%q, %v", id, ok)
	}
	if id, ok := Pick(r, ids, func(string) bool { return false }, cost); ok {
		t.Errorf("picked %q of none", id)
	}
	if _, ok := Pick(r, nil, func(string) bool { return true }, cost); ok {
		t.Error("picked from an empty pool")
	}
	if id, ok := Pick(r, []string{"one"}, func(string) bool { return true }, cost); !ok || id != "one" {
		t.Errorf("of one: %q, %v", id, ok)
	}
}

// TestRelayCost proves the order of what matters.
func TestRelayCost(t *testing.T) {
	good := Relay{RTT: 10, Score: 1, SameRegion: true}
	for name, worse := range map[string]Relay{
		"far":       {RTT: 80, Score: 1, SameRegion: true},
		"elsewhere": {RTT: 10, Score: 1},
		"failing":   {RTT: 10, Score: 0.5, SameRegion: true},
		"busy":      {RTT: 10, Score: 1, SameRegion: true, Load: 0.9},
		"full":      {RTT: 10, Score: 1, SameRegion: true, Fill: 0.9},
		"degraded":  {RTT: 10, Score: 1, SameRegion: true, Degraded: true},
		"unknown":   {Score: 1, SameRegion: true},
	} {
		if RelayCost(worse) <= RelayCost(good) {
			t.Errorf("%s costs %.1f, a good one %.1f", name, RelayCost(worse), RelayCost(good))
		}
	}
	if HostCost(Host{Fill: 1, SameRegion: true}) >= HostCost(Host{}) {
		t.Error("a host elsewhere beats the wished region")
	}
}

// TestJudge proves each verdict at its limits.
func TestJudge(t *testing.T) {
	p := DefaultPolicy()
	for name, c := range map[string]struct {
		state string
		age   time.Duration
		r     Record
		want  Verdict
	}{
		"proven":             {"probation", time.Minute, Record{Succeeded: 20}, Promote},
		"too early":          {"probation", time.Minute - 1, Record{Succeeded: 20}, Stay},
		"too few":            {"probation", time.Hour, Record{Succeeded: 19}, Stay},
		"time alone":         {"probation", 24 * time.Hour, Record{}, Stay},
		"half fail":          {"probation", time.Hour, Record{Succeeded: 30, Failed: 30}, Stay},
		"active fails":       {"active", time.Second, Record{Succeeded: 5, Failed: 5}, Degrade},
		"active small":       {"active", time.Second, Record{Failed: 9}, Stay},
		"active overloaded":  {"active", 0, Record{Overloaded: true}, Degrade},
		"degraded recovers":  {"degraded", time.Minute, Record{Succeeded: 10}, Recover},
		"degraded idle":      {"degraded", time.Minute, Record{}, Recover},
		"degraded too early": {"degraded", time.Second, Record{}, Stay},
		"degraded still bad": {"degraded", time.Hour, Record{Succeeded: 1, Failed: 3}, Stay},
		"draining is left":   {"draining", time.Hour, Record{Succeeded: 99}, Stay},
	} {
		if got := Judge(p, c.state, c.age, c.r); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func BenchmarkPick(b *testing.B) {
	b.ReportAllocs()
	r := rand.New(rand.NewPCG(3, 1))
	ids := make([]string, 20000)
	for i := range ids {
		ids[i] = fmt.Sprint(i)
	}
	for range b.N {
		Pick(r, ids, func(string) bool { return true }, func(string) float64 { return 0 })
	}
}
