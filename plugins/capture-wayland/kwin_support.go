package main

import (
	"bufio"
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/wavry/fleet/plugins/internal/portal"
)

// kwinSupport is what matters here of KWin's description of itself.
type kwinSupport struct {
	Version string // "5.27.5"
	Backend string // "VirtualBackend", "DrmBackend", ...
}

// askKWin reads org.kde.KWin.supportInformation, a text for people that has kept its shape since KWin 5.20.
func askKWin(ctx context.Context, bus *portal.Bus) (kwinSupport, error) {
	var text string
	err := bus.Object(kwinService, "/KWin").CallWithContext(ctx, "org.kde.KWin.supportInformation", 0).Store(&text)
	if err != nil {
		return kwinSupport{}, fmt.Errorf("ask KWin about itself: %w", err)
	}
	return parseSupport(text), nil
}

// parseSupport finds "KWin version: V" and, in the section "Output backend", "Name: KWin::B". What is not there stays empty.
func parseSupport(text string) (s kwinSupport) {
	section, previous := "", ""
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if line != "" && strings.Trim(line, "=") == "" {
			section = previous
		}
		if v, ok := strings.CutPrefix(line, "KWin version: "); ok {
			s.Version = v
		}
		if v, ok := strings.CutPrefix(line, "Name: "); ok && section == "Output backend" {
			s.Backend = strings.TrimPrefix(v, "KWin::")
		}
		previous = line
	}
	return s
}

// castsMonitors says whether streaming an output can work. KWin 5's virtual backend never signals that an output changed, so that
// no frame comes, and KWin crashes when such a stream ends (measured with 5.27.5).
func (s kwinSupport) castsMonitors() error {
	major, _, _ := strings.Cut(s.Version, ".")
	if n, err := strconv.Atoi(major); s.Backend != "VirtualBackend" || err != nil || n >= 6 {
		return nil
	}
	return unavailable(fmt.Sprintf("KWin %s runs on its virtual backend, which delivers no frames of a monitor", s.Version),
		"run KWin on a GPU (DRM), or use kwin-window or kwin-screenshot")
}
