package expire

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestAgainstModel proves on random operations that the queue gives every id exactly when its latest expiry has come.
func TestAgainstModel(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 2))
		q, model, now := New(), map[string]int64{}, int64(0)
		for range 2000 {
			id := fmt.Sprintf("l%d", r.IntN(40))
			switch r.IntN(4) {
			case 0, 1:
				at := now + int64(r.IntN(100))
				q.Set(id, at)
				model[id] = at
			case 2:
				q.Remove(id)
				delete(model, id)
			default:
				now += int64(r.IntN(30))
				got := q.Due(now, 1000)
				var want []string
				for id, at := range model {
					if at <= now {
						want = append(want, id)
						delete(model, id)
					}
				}
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Fatalf("seed %d at %d: got %v, want %v", seed, now, got, want)
				}
			}
			if q.Len() != len(model) {
				t.Fatalf("seed %d: %d ids, want %d", seed, q.Len(), len(model))
			}
		}
	}
}

// TestLimit proves that no more than asked for are returned and the rest stays.
func TestLimit(t *testing.T) {
	q := New()
	for i := range 10 {
		q.Set(fmt.Sprint(i), int64(i))
	}
	if first, rest := q.Due(100, 4), q.Due(100, 100); len(first) != 4 || len(rest) != 6 {
		t.Errorf("%v, then %v", first, rest)
	}
}

func BenchmarkSetDue(b *testing.B) {
	b.ReportAllocs()
	q := New()
	ids := make([]string, 1<<16)
	for i := range ids {
		ids[i] = fmt.Sprint("lease", i)
	}
	for i := range b.N {
		q.Set(ids[i&(len(ids)-1)], int64(i+len(ids)/2))
		q.Due(int64(i), 8)
	}
}
