// Command wavry-encode-software encodes on the CPU: H.264 with x264 or OpenH264. It is a plugin: the host runtime starts it.
package main

import (
	"log/slog"
	"os"

	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/plugins/internal/encode"
)

func main() {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	pluginapi.ServeEncoder(encode.New(encode.Config{Name: "encode-software", Methods: methods(), Logger: log}))
}
