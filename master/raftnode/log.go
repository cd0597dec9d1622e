package raftnode

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

func sortServers(servers []raft.Server) {
	slices.SortFunc(servers, func(a, b raft.Server) int { return cmp.Compare(a.ID, b.ID) })
}

// hcLogger lets Raft write into slog.
func hcLogger(log *slog.Logger) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Level: hclog.Debug, Output: discard{}})
	l.RegisterSink(&sink{log: log.With("component", "raft")})
	return l
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

type sink struct{ log *slog.Logger }

var levels = map[hclog.Level]slog.Level{
	hclog.Trace: slog.LevelDebug, hclog.Debug: slog.LevelDebug, hclog.Info: slog.LevelInfo, hclog.Warn: slog.LevelWarn, hclog.Error: slog.LevelError,
}

// Accept implements hclog.SinkAdapter.
func (s *sink) Accept(name string, level hclog.Level, message string, args ...any) {
	to := levels[level]
	if expected(args) {
		to = slog.LevelDebug
	}
	if !s.log.Enabled(context.Background(), to) {
		return
	}
	s.log.Log(context.Background(), to, message, append([]any{"source", name}, args...)...)
}

// expected recognises what Raft warns of although nobody needs to look: that a server which never had a leader elects one, and that a
// listener which we closed is closed.
func expected(args []any) bool {
	for i := 0; i+1 < len(args); i += 2 {
		err, _ := args[i+1].(error)
		if errors.Is(err, net.ErrClosed) || args[i] == "last-leader-id" && args[i+1] == raft.ServerID("") {
			return true
		}
	}
	return false
}

// Logger is a logger for HashiCorp libraries that writes into log.
func Logger(log *slog.Logger) hclog.Logger { return hcLogger(log) }
