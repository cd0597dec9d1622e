package master

import (
	"testing"
	"time"

	"github.com/wavry/fleet/master/state"
)

// TestKeyWork proves when keys are added, rotated by the schedule and retired: never a key that verifiers had no time to learn of, never one whose
// tokens may still be valid.
func TestKeyWork(t *testing.T) {
	const rotation, ahead, life = 7 * 24 * time.Hour, 10 * time.Second, 6 * time.Minute
	now := time.Unix(1_800_000_000, 0)
	key := func(created, signing, retired time.Duration) *state.Key {
		return &state.Key{Created: state.At(now.Add(-created)), SigningSince: state.At(now.Add(-signing)), Retired: state.At(now.Add(-retired))}
	}
	old, young := key(8*24*time.Hour, rotation, 0), key(24*time.Hour, rotation-time.Second, 0)
	for name, c := range map[string]struct {
		signing, next *state.Key
		retiring      []*state.Key
		rotation      time.Duration
		want          keyWork
	}{
		"nothing to do":        {young, key(time.Hour, 0, 0), nil, rotation, keyWork{}},
		"a new cluster":        {nil, nil, nil, rotation, keyWork{add: true}},
		"no next key":          {young, nil, nil, rotation, keyWork{add: true}},
		"due":                  {old, key(time.Hour, 0, 0), nil, rotation, keyWork{rotate: true}},
		"due, next too fresh":  {old, key(ahead-time.Second, 0, 0), nil, rotation, keyWork{}},
		"due, no next":         {old, nil, nil, rotation, keyWork{add: true}},
		"by hand only":         {old, key(time.Hour, 0, 0), nil, 0, keyWork{}},
		"tokens may be valid":  {young, key(time.Hour, 0, 0), []*state.Key{key(0, 0, life-time.Second)}, rotation, keyWork{}},
		"all tokens are ended": {young, key(time.Hour, 0, 0), []*state.Key{key(0, 0, life)}, rotation, keyWork{retire: true}},
	} {
		if got := keyWorkAt(now, c.signing, c.next, c.rotation, ahead, life, c.retiring); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
