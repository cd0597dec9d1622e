package main

import (
	"github.com/wavry/fleet/hostruntime/pluginapi"
)

func newDMABufMemory(d *wlrDesktop) (wlrMemory, string, error) {
	return nil, "", &pluginapi.UnavailableError{Reason: "not yet"}
}

func chooseMemory(d *wlrDesktop, wish string) (wlrMemory, string) {
	return shmMemory{d}, "pictures in shared memory"
}
