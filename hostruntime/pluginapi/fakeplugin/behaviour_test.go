package fakeplugin

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestBehaviour proves that every field survives the environment.
func TestBehaviour(t *testing.T) {
	want := Behaviour{Role: "encode"}
	v := reflect.ValueOf(&want).Elem()
	for i := range v.NumField() {
		switch f := v.Field(i); f.Interface().(type) {
		case bool:
			f.SetBool(true)
		case int, time.Duration:
			f.SetInt(int64(i + 1))
		case string:
			if f.String() == "" {
				f.SetString("x")
			}
		}
	}
	got, err := Parse(want.String())
	if err != nil || got != want {
		t.Fatalf("got %+v, %v, want %+v", got, err, want)
	}
	if b, err := Parse("role=capture,black"); err != nil || !b.Black {
		t.Error("a bool without a value:", b, err)
	}
	for _, bad := range []string{"", "role=chef", "role=capture,colour=red", "role=capture,die_after=soon"} {
		if _, err := Parse(bad); err == nil || !strings.Contains(err.Error(), EnvName) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestRuns proves that misbehaviour can be limited to the first processes.
func TestRuns(t *testing.T) {
	b := Behaviour{Role: "capture", Refuse: true, Width: 64, Runs: 2}
	for run, refuses := range []bool{true, true, false, false} {
		if got := b.InRun(run); got.Refuse != refuses || got.Width != 64 {
			t.Fatalf("run %d: %+v", run, got)
		}
	}
}

// TestRoleOfName proves that a plugin's file name is enough.
func TestRoleOfName(t *testing.T) {
	for name, want := range map[string]string{"wavry-capture-x": ",role=capture", "wavry-encode-": ",role=encode", "wavry-fake": "", "x.test": ""} {
		if got := roleOfName(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
}
