//go:build integration

package viewertest

import (
	"encoding/json"
	"testing"

	"github.com/wavry/fleet/gateway/signalapi"
)

// The page's key is made once and survives a reload, which comes back with a proof by the same key; no script can read its private half; whoever
// signs out leaves none behind. The host of these tests lets nobody in whose proof does not fit the wish (host.greet).
func TestPageKey(t *testing.T) {
	_, gw, p := live(t)
	first := lastKey(t, gw, signalapi.TypeConnect)
	const stored = `new Promise((done, failed) => {
		const open = indexedDB.open("wavry", 1);
		open.onerror = () => failed(open.error);
		open.onsuccess = () => {
			const get = open.result.transaction("keys").objectStore("keys").get("viewer");
			get.onsuccess = () => { open.result.close(); done(get.result ?? null); };
		};
	})`
	if out := settled(p, stored+`.then((k) => k.privateKey.extractable ? "extractable" : crypto.subtle.exportKey("jwk", k.privateKey))`); out != "InvalidAccessError" {
		t.Errorf("the private half: %s", out)
	}
	js[bool](p, "location.reload(), true")
	p.UntilGo("a second wish", func() bool { return len(gw.asked(signalapi.TypeConnect)) == 2 })
	p.Until("live again", `window.wavry && wavry.state === "live"`)
	if again := lastKey(t, gw, signalapi.TypeConnect); again != first {
		t.Errorf("after a reload the page has key %s, not %s", again, first)
	}
	js[bool](p, `location.hash = "#/", true`)
	p.Until("the way out", `document.querySelector("[aria-label='Sign out']") !== null`)
	js[bool](p, `document.querySelector("[aria-label='Sign out']").click(), true`)
	p.says("Open the one-time link")
	if out := settled(p, stored+`.then((k) => k === null ? "none" : "a key")`); out != "none" {
		t.Errorf("%s is left behind", out)
	}
}

// settled is what a promise comes to, or the name of its error.
func settled(p *page, promise string) string {
	p.t.Helper()
	js[bool](p, `delete window.settled, (`+promise+`).then(String, (e) => e.name).then((s) => { window.settled = s; }), true`)
	p.Until("the promise is settled", `"settled" in window`)
	return js[string](p, "window.settled")
}

// lastKey is the key of the last wish of a kind.
func lastKey(t *testing.T, gw *gateway, kind string) string {
	t.Helper()
	asked := gw.asked(kind)
	var wish struct {
		Key string `json:"key"`
	}
	if err := json.Unmarshal(asked[len(asked)-1].Data, &wish); err != nil || len(wish.Key) != 43 {
		t.Fatalf("wish %s, %v", asked[len(asked)-1].Data, err)
	}
	return wish.Key
}
