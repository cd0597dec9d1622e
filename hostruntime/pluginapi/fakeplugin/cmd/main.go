// Command wavry-fake is the fake plugin as a binary: WAVRY_FAKE=role=capture,die_after=100 and so on (fakeplugin.Behaviour).
package main

import "github.com/wavry/fleet/hostruntime/pluginapi/fakeplugin"

func main() { fakeplugin.Main() }
