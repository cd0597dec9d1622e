// Command wavry-encode-nvenc encodes on NVIDIA GPUs with GStreamer's nvcodec plugin: H.264, HEVC and AV1. It is a
// plugin: the host runtime starts it.
package main

import "github.com/wavry/fleet/plugins/internal/encode"

func main() {
	encode.Serve(encode.Config{Name: "encode-nvenc", Methods: methods(machine{})})
}
