package pluginhost

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// logWriter turns a plugin's stderr into debug lines, at a bounded rate, and keeps the end of what is out of the ordinary.
type logWriter struct {
	log *slog.Logger
	now func() time.Time

	mu         sync.Mutex // guards the following
	partial    []byte
	tail       []string
	tokens     float64
	refilled   time.Time
	suppressed int
}

func newLogWriter(log *slog.Logger, now func() time.Time) *logWriter {
	return &logWriter{log: log, now: now, tokens: logBurst, refilled: now()}
}

// Write never fails. Lines longer than tailBytes are cut.
func (w *logWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(p)
	for {
		line, rest, found := bytes.Cut(p, []byte{'\n'})
		w.partial = append(w.partial, line[:min(len(line), tailBytes-min(len(w.partial), tailBytes))]...)
		if !found {
			return n, nil
		}
		w.line(strings.TrimSpace(string(w.partial)))
		w.partial, p = w.partial[:0], rest
	}
}

func (w *logWriter) line(s string) {
	if s == "" {
		return
	}
	if !routine(s) {
		w.tail = append(w.tail, s)
		w.tail = w.tail[max(0, len(w.tail)-tailLines):]
	}
	if !w.take() {
		w.suppressed++
		return
	}
	if w.suppressed > 0 {
		w.log.Debug("plugin wrote too much", "suppressed", w.suppressed)
		w.suppressed = 0
	}
	w.log.Log(context.Background(), slog.LevelDebug, "plugin stderr", "line", s)
}

// routine tells slog's lines of everyday life, in both its forms: they are not last words.
func routine(s string) bool {
	for _, mark := range []string{"level=INFO", "level=DEBUG", `"level":"INFO"`, `"level":"DEBUG"`} {
		if strings.Contains(s, mark) {
			return true
		}
	}
	return false
}

// take is a token bucket.
func (w *logWriter) take() bool {
	now := w.now()
	w.tokens = min(logBurst, w.tokens+now.Sub(w.refilled).Seconds()*logLinesPerSecond)
	w.refilled = now
	if w.tokens < 1 {
		return false
	}
	w.tokens--
	return true
}

// Tail is the end of the output, at most tailBytes.
func (w *logWriter) Tail() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	lines := w.tail
	if last := strings.TrimSpace(string(w.partial)); last != "" {
		lines = append(lines[:len(lines):len(lines)], last)
	}
	s := strings.Join(lines, " | ")
	return s[max(0, len(s)-tailBytes):]
}

// headWriter keeps the first bytes written to it: the handshake line, or what a stranger says instead.
type headWriter struct {
	mu   sync.Mutex
	head []byte
}

func (h *headWriter) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.head = append(h.head, p[:min(len(p), handshakeBytes-len(h.head))]...)
	return len(p), nil
}

func (h *headWriter) firstLine() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	line, _, _ := bytes.Cut(h.head, []byte{'\n'})
	return strings.TrimSpace(string(line))
}
