//go:build linux && (amd64 || arm64)

package relay

func openPath(cfg Config, e *engine) (dataPath, error) {
	if cfg.DataPath == PathPortable {
		return openPortable(e, cfg.Bind, cfg.ControlPort, cfg.FirstMediaPort, cfg.MediaPorts)
	}
	s, err := openSockets(cfg.Bind, cfg.ControlPort, cfg.FirstMediaPort, cfg.MediaPorts, cfg.workers())
	if err != nil {
		return nil, err
	}
	return newFastPath(e, s, cfg.BusyPoll), nil
}
