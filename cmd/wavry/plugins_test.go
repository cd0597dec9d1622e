package main

import (
	"testing"

	"github.com/wavry/fleet/hostruntime/pipeline"
)

// TestPluginOptions proves that a plugin gets the operator's options, whichever of its methods is a candidate, and no other's.
func TestPluginOptions(t *testing.T) {
	options, err := pluginOptions([]string{"capture-wayland/xkb_layout=de", "capture-wayland/output=A=B", "encode-software/preset=fast"})
	if err != nil {
		t.Fatal(err)
	}
	names := []pipeline.Candidate{{Name: "capture-wayland/portal"}, {Name: "capture-wayland"}, {Name: "capture-test"}}
	got := withOptions(names, options)
	for i, want := range []int{2, 2, 0} {
		if len(got[i].Options) != want || want > 0 && (got[i].Options["xkb_layout"] != "de" || got[i].Options["output"] != "A=B") {
			t.Errorf("%s gets %v", got[i].Name, got[i].Options)
		}
	}
	if names[0].Options != nil {
		t.Error("the list itself was changed")
	}
	for _, bad := range []string{"", "capture-wayland", "capture-wayland/", "capture-wayland/x", "/x=1", "capture-wayland/=1"} {
		if _, err := pluginOptions([]string{bad}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
