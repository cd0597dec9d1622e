package nomadmeta

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/nomad/api"
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
	n.Follow(t.Context(), nil)
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

// Only nodes with troubles are listed, with their reasons.
func TestListTroubles(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte(map[string]string{
			"/v1/nodes":  `[{"ID":"a","Name":"n1"},{"ID":"b","Name":"n2"},{"ID":"c","Name":"n3"},{"ID":"d","Name":"n4"}]`,
			"/v1/node/a": `{"Name":"n1","Meta":{"wavry.usable":"true"}}`,
			"/v1/node/b": `{"Name":"n2","Meta":{"wavry.usable":"false","wavry.reason":"no display"}}`,
			"/v1/node/c": `{"Name":"n3"}`,
			"/v1/node/d": `{"Name":"n4","Meta":{"wavry.usable":"true","wavry.refused":"no such plugin"}}`,
		}[r.URL.Path]))
	}))
	defer server.Close()
	list, err := ListTroubles(t.Context(), Config{Address: server.URL})
	want := []Trouble{{Node: "n2", Unusable: true, Reason: "no display"}, {Node: "n4", Refused: "no such plugin"}}
	if err != nil || !slices.Equal(list, want) {
		t.Errorf("%v, %v", list, err)
	}
}

// Jobs of hosts that wait are listed with what the nodes lack; other jobs are not.
func TestListWaiting(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/evaluations" || r.URL.Query().Get("filter") != `Status == "blocked"` {
			t.Errorf("asked %s", r.URL)
		}
		w.Write([]byte(`[{"JobID":"web","FailedTGAllocs":{"web":{"NodesEvaluated":1}}},
			{"JobID":"wavry-host-sway","FailedTGAllocs":{"host":{"NodesEvaluated":0}}},
			{"JobID":"wavry-host-vaapi","FailedTGAllocs":{"host":{"NodesEvaluated":3,"ConstraintFiltered":{"${meta.wavry_gpu} = vaapi":2},"DimensionExhausted":{"memory":1}}}}]`))
	}))
	defer server.Close()
	list, err := ListWaiting(t.Context(), Config{Address: server.URL})
	want := []Waiting{
		{"wavry-host-sway", "there is no node in its datacenters and node pool"},
		{"wavry-host-vaapi", `of 3 nodes "${meta.wavry_gpu} = vaapi" fails on 2, memory is used up on 1`},
	}
	if err != nil || !slices.Equal(list, want) {
		t.Errorf("%v, %v", list, err)
	}
}

// The order is told at first and with each change, and what the agent said last holds while it is away.
func TestFollow(t *testing.T) {
	var mu sync.Mutex
	answers := []string{"", `{"Meta":{"wavry_encode":"encode-vaapi"}}`, "", `{"Meta":{"wavry_encode":"encode-vaapi"}}`, `{"Meta":{"wavry_capture":"a/b,c"}}`, `{"Meta":{}}`}
	client := &http.Client{Transport: agent(func(r *http.Request) *http.Response {
		mu.Lock()
		defer mu.Unlock()
		if r.Method != http.MethodGet || r.URL.Path != "/v1/client/metadata" || r.URL.Query().Get("node_id") != "" {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		answer := answers[0]
		if len(answers) > 1 {
			answers = answers[1:]
		}
		code := http.StatusOK
		if answer == "" {
			code = http.StatusInternalServerError
		}
		return &http.Response{StatusCode: code, ContentLength: int64(len(answer)), Body: io.NopCloser(strings.NewReader(answer)), Header: http.Header{}}
	})}
	synctest.Test(t, func(t *testing.T) {
		c, err := api.NewClient(&api.Config{Address: "http://agent", HttpClient: client})
		if err != nil {
			t.Fatal(err)
		}
		n := &Node{client: c, log: slog.New(slog.DiscardHandler)}
		ctx, cancel := context.WithTimeout(t.Context(), 20*followEvery)
		defer cancel()
		var told []Preference
		n.Follow(ctx, func(p Preference) { told = append(told, p) })
		if want := []Preference{{Encode: "encode-vaapi"}, {Capture: "a/b,c"}, {}}; !slices.Equal(told, want) {
			t.Errorf("told %v, want %v", told, want)
		}
	})
}

// agent answers without a network.
type agent func(*http.Request) *http.Response

func (a agent) RoundTrip(r *http.Request) (*http.Response, error) { return a(r), nil }
