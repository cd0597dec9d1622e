package hostrule

import (
	"strings"
	"testing"
)

// TestAllow proves that a rule is exact: per segment of the name, pool, slots and region.
func TestAllow(t *testing.T) {
	rules, err := Parse(append(Default(), "h1=desk|games/2/eu", "lab@*=*/4"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		offer Offer
		want  bool
	}{
		"a job's pool":               {Offer{"wavry-host-sway@n1", "sway", "eu", 1}, true},
		"another job's pool":         {Offer{"wavry-host-sway@n1", "finance", "eu", 1}, false},
		"more slots than people":     {Offer{"wavry-host-sway@n1", "sway", "eu", 2}, false},
		"a longer job":               {Offer{"wavry-host-sway-finance@n1", "sway", "eu", 1}, false},
		"a longer job's own pool":    {Offer{"wavry-host-sway-finance@n1", "sway-finance", "eu", 1}, true},
		"a job without a name":       {Offer{"wavry-host-@n1", "", "eu", 1}, false},
		"no node":                    {Offer{"wavry-host-sway", "sway", "eu", 1}, false},
		"empty node":                 {Offer{"wavry-host-sway@", "sway", "eu", 1}, false},
		"two nodes":                  {Offer{"wavry-host-sway@n1@n2", "sway", "eu", 1}, false},
		"one of two pools":           {Offer{"h1", "games", "eu", 2}, true},
		"the wrong region":           {Offer{"h1", "games", "us", 1}, false},
		"a name that begins like it": {Offer{"h11", "games", "eu", 1}, false},
		"every pool":                 {Offer{"lab@x", "anything", "", 4}, true},
		"the pool of a star":         {Offer{"h1", "*", "eu", 1}, false},
		"evil":                       {Offer{"evil", "desk", "", 64}, false},
		"the name of a pattern":      {Offer{"wavry-host-{name}@*", "{name}", "", 1}, true}, // a name like others, with the pool of that name
	} {
		if got := rules.Allow(c.offer); (got != "") != c.want {
			t.Errorf("%s: %+v: allowed by %q, want %v", name, c.offer, got, c.want)
		}
	}
	if got := Rules(nil).Allow(Offer{Host: "h1", Pool: "default", Slots: 1}); got != "" {
		t.Errorf("without rules: allowed by %q", got)
	}
}

// TestParse proves that each mistake is named, all at once.
func TestParse(t *testing.T) {
	bad := []string{"", "h1", "h1=", "h1=desk", "h1=desk/0", "h1=desk/many", "h1=desk/1/eu/x", "h1=desk/1/", "=desk/1", "h*=desk/1", "a@=desk/1", "h1={name}/1", "{name}{name}=x/1", "{other}=x/1", "h1=/1", "h1=de*/1"}
	_, err := Parse(bad)
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || len(joined.Unwrap()) != len(bad) {
		t.Fatalf("%d mistakes: %v", len(bad), err)
	}
	for i, e := range joined.Unwrap() {
		if !strings.Contains(e.Error(), "host_rules") {
			t.Errorf("%q: %v", bad[i], e)
		}
	}
}
