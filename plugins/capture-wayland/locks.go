package main

import "github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"

// Locks as pluginpb.Locks has them.
const (
	lockCaps   = 1
	lockNum    = 2
	lockScroll = 4
)

const keyScrollLock = 70

// lockKeys are the keys that toggle a lock, in a fixed order.
var lockKeys = []struct{ lock, key uint32 }{{lockCaps, keyCapsLock}, {lockNum, keyNumLock}, {lockScroll, keyScrollLock}}

// locks is what is believed of a desktop's locks: which are known, and which of these hold. Where locks can only be toggled by their keys,
// the belief says which to press.
type locks struct{ known, on uint32 }

// newLocks believes that a desktop starts with Caps Lock off. Whether Num Lock is on, desktops decide differently: the first wish is taken
// for what is.
func newLocks() locks { return locks{known: lockCaps} }

// learn takes what the compositor says.
func (l *locks) learn(known, on uint32) {
	l.known |= known
	l.on = l.on&^known | on&known
}

// wish returns the keys to press so that what is wished holds, and believes it from then on.
func (l *locks) wish(w *pluginpb.Locks) (keys []uint32) {
	for _, k := range lockKeys {
		if w.Known&l.known&k.lock != 0 && (w.On^l.on)&k.lock != 0 {
			keys = append(keys, k.key)
		}
	}
	l.learn(w.Known, w.On)
	return keys
}
