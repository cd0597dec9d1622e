package nomadmeta

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What is set reaches the agent with its token, and a key that no longer holds is removed.
func TestPublish(t *testing.T) {
	got := make(chan map[string]*string, 4)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Meta map[string]*string }
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || r.URL.Path != "/v1/client/metadata" || r.Header.Get("X-Nomad-Token") != "t" {
			t.Errorf("%s %v %v", r.URL, r.Header, err)
		}
		got <- body.Meta
		w.Write([]byte("{}"))
	}))
	defer server.Close()
	n, err := New(Config{Address: server.URL, Token: "t"})
	if err != nil {
		t.Fatal(err)
	}
	defer n.client.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { n.Run(ctx); close(done) }()
	defer func() { cancel(); <-done }()
	n.Set(map[string]string{Usable: "false", Reason: "no display"})
	if m := next(t, got); *m[Reason] != "no display" || m[Capture] != nil {
		t.Errorf("published %v", m)
	}
	n.Set(map[string]string{Usable: "true", Capture: "capture-wayland"})
	if m := next(t, got); m[Reason] != nil || *m[Capture] != "capture-wayland" {
		t.Errorf("published %v", m)
	}
}

// A host without Nomad sets and runs nothing.
func TestNil(t *testing.T) {
	var n *Node
	n.Set(nil)
	n.Run(t.Context())
}

func next(t *testing.T, from <-chan map[string]*string) map[string]*string {
	t.Helper()
	select {
	case m := <-from:
		return m
	case <-time.After(5 * time.Second):
		t.Fatal("nothing published")
		return nil
	}
}

// Only nodes that took themselves out are listed, with their reasons.
func TestListUnusable(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte(map[string]string{
			"/v1/nodes":  `[{"ID":"a","Name":"n1"},{"ID":"b","Name":"n2"},{"ID":"c","Name":"n3"}]`,
			"/v1/node/a": `{"Name":"n1","Meta":{"wavry.usable":"true"}}`,
			"/v1/node/b": `{"Name":"n2","Meta":{"wavry.usable":"false","wavry.reason":"no display"}}`,
			"/v1/node/c": `{"Name":"n3"}`,
		}[r.URL.Path]))
	}))
	defer server.Close()
	list, err := ListUnusable(t.Context(), Config{Address: server.URL})
	if err != nil || len(list) != 1 || list[0] != (Unusable{Node: "n2", Reason: "no display"}) {
		t.Errorf("%v, %v", list, err)
	}
}
