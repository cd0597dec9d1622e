package raftnode

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
)

// What Raft says of a first election and of a listener that we closed is for debugging; a lost leader is still a warning.
func TestLoggerLevels(t *testing.T) {
	var out bytes.Buffer
	log := hcLogger(slog.New(slog.NewTextHandler(&out, nil)))
	log.Warn("heartbeat timeout reached", "last-leader-addr", raft.ServerAddress(""), "last-leader-id", raft.ServerID(""))
	log.Error("failed to accept connection", "error", fmt.Errorf("accept: %w", net.ErrClosed))
	if out.Len() != 0 {
		t.Errorf("logged %s", &out)
	}
	log.Warn("heartbeat timeout reached", "last-leader-id", raft.ServerID("b"))
	if !strings.Contains(out.String(), "level=WARN") {
		t.Errorf("a lost leader is logged as %q", &out)
	}
}
