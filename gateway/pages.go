package gateway

import (
	"io/fs"
	"net/http"
	"path"
	"strings"
)

// pages serves the built web app. Files with a content hash in their name (below assets/) may be kept by browsers for good; all
// else is asked for again. A path that is no file and looks like a page is the app's own: index.html.
func (g *Gateway) pages() http.Handler {
	files := http.FileServerFS(g.cfg.Web)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			g.answer(w, r, nil, refuse(http.StatusMethodNotAllowed, "bad_request", "Pages can only be read."))
			return
		}
		name := strings.TrimPrefix(path.Clean(r.URL.Path), "/")
		w.Header().Set("Cache-Control", "no-cache")
		if strings.HasPrefix(name, "assets/") {
			w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		}
		if _, err := fs.Stat(g.cfg.Web, name); name != "" && err != nil && path.Ext(name) == "" {
			http.ServeFileFS(w, r, g.cfg.Web, "index.html")
			return
		}
		files.ServeHTTP(w, r)
	})
}
