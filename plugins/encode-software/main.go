// Command wavry-encode-software encodes on the CPU: H.264 with x264 or OpenH264. It is a plugin: the host runtime starts it.
package main

import "github.com/wavry/fleet/plugins/internal/encode"

func main() {
	encode.Serve(encode.Config{Name: "encode-software", Methods: methods()})
}
