//go:build !linux || !(amd64 || arm64)

package relay

import (
	"context"
	"fmt"
)

func openPath(cfg Config, e *engine) (dataPath, error) {
	if cfg.DataPath == PathFast {
		return nil, fmt.Errorf("data_path = %q: %w", cfg.DataPath, ErrUnsupported)
	}
	return openPortable(e, cfg.Bind, cfg.ControlPort, cfg.FirstMediaPort, cfg.MediaPorts)
}

func (r *Relay) takeOver(context.Context) (dataPath, func() error, error) {
	return nil, nil, fmt.Errorf("handover_socket: %w", ErrUnsupported)
}

func (r *Relay) offerHandover(dataPath) (serve func(context.Context) error, err error) {
	return func(context.Context) error { return nil }, nil
}
