// Package web holds the web app as it is served: the bundle of the TypeScript sources beside this file, embedded. It is a leaf with
// one handler; gateway and standalone host mount it at "/".
//
// dist is committed, so that Go alone builds Wavry. `npm --prefix web run build` makes it, `npm --prefix web run verify` checks it.
package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"sync"
)

//go:embed dist
var embedded embed.FS

// Dist is the files of the web app with index.html at its root.
var Dist = func() fs.FS {
	sub, err := fs.Sub(embedded, "dist")
	if err != nil {
		panic("web: the embedded folder is named dist") // the name is a valid path, the only thing Sub checks
	}
	return sub
}()

// ContentSecurityPolicy is what the app needs and no more: its own files, data: pictures (cursors, QR codes), and WebTransport to
// hosts and relays at any https address.
const ContentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self' https:; " +
	"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// Handler serves Dist: compressed where the browser takes it, kept for ever under names with a version, checked each time otherwise.
// Any other path is 404; the app's own pages are fragments of index.html.
func Handler() http.Handler {
	return &handler{load: sync.OnceValues(func() (map[string]file, error) { return readAll(Dist) })}
}

type handler struct {
	load func() (map[string]file, error)
}

type file struct {
	kind              string
	tag               string
	plain, compressed []byte
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "the web app is only read", http.StatusMethodNotAllowed)
		return
	}
	files, err := h.load()
	if err != nil {
		http.Error(w, "the web app cannot be read", http.StatusInternalServerError)
		return
	}
	name := strings.TrimPrefix(path.Clean("/"+r.URL.Path), "/")
	if name == "" {
		name = "index.html"
	}
	f, ok := files[name]
	if !ok {
		http.NotFound(w, r)
		return
	}
	f.serve(w, r)
}

func (f file) serve(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("Content-Type", f.kind)
	head.Set("Etag", f.tag)
	head.Set("Vary", "Accept-Encoding")
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("Content-Security-Policy", ContentSecurityPolicy)
	head.Set("Cache-Control", "no-cache")
	if r.URL.Query().Has("v") {
		head.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	if r.Header.Get("If-None-Match") == f.tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	body := f.plain
	if f.compressed != nil && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		head.Set("Content-Encoding", "gzip")
		body = f.compressed
	}
	if r.Method == http.MethodGet {
		_, _ = w.Write(body) // the browser went away; nobody is left to tell
	}
}

var kinds = map[string]string{
	".html": "text/html; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".svg":  "image/svg+xml",
}

func readAll(dist fs.FS) (map[string]file, error) {
	files := map[string]file{}
	err := fs.WalkDir(dist, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(dist, name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(b)
		files[name] = file{kind: kinds[path.Ext(name)], tag: `"` + hex.EncodeToString(sum[:8]) + `"`, plain: b, compressed: compress(b)}
		return nil
	})
	return files, err
}

// compress returns nil when it does not pay.
func compress(b []byte) []byte {
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil
	}
	if _, err := z.Write(b); err != nil || z.Close() != nil || out.Len() >= len(b) {
		return nil
	}
	return out.Bytes()
}
