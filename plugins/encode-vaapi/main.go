// Command wavry-encode-vaapi encodes on Intel and AMD GPUs through VA-API with GStreamer's va plugin: H.264, HEVC and AV1. It is a
// plugin: the host runtime starts it.
package main

import "github.com/wavry/fleet/plugins/internal/encode"

func main() {
	encode.Serve(encode.Config{Name: "encode-vaapi", Methods: methods(machine{})})
}
