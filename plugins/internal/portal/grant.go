package portal

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"time"
	"unicode/utf16"

	"github.com/godbus/dbus/v5"
)

// The permission store is where xdg-desktop-portal looks restore tokens up. Whoever is on the session bus outside a sandbox may
// write to it, so on a desktop of our own we put the answer to the dialog there beforehand.
const (
	storeService = "org.freedesktop.impl.portal.PermissionStore"
	storePath    = "/org/freedesktop/impl/portal/PermissionStore"
	castTable    = "screencast"
)

// restoreData is what a backend gets back with a token: its name, a version and data of its own.
type restoreData struct {
	Backend string
	Version uint32
	Data    dbus.Variant
}

// GrantGNOME allows a cast of the monitor with this EDID triple and returns the token for it.
// Source: xdg-desktop-portal-gnome 43, src/screencast.c, restore_stream_from_data.
func GrantGNOME(ctx context.Context, bus *Bus, vendor, product, serial string) (string, error) {
	type stream struct {
		ID, Kind uint32
		Data     dbus.Variant
	}
	now := time.Now().UnixMicro()
	data := struct {
		Created, Used int64
		Streams       []stream
	}{now, now, []stream{{0, SourceMonitor, dbus.MakeVariant(vendor + ":" + product + ":" + serial)}}}
	return grant(ctx, bus, restoreData{"GNOME", 1, dbus.MakeVariant(data)})
}

// GrantKDE allows a cast of the monitor at this position and returns the token for it.
// Source: xdg-desktop-portal-kde 5.27, src/screencast.cpp: a QVariantMap with a QVariantList "outputs" of unique names, which for
// monitors are their positions; serialized by QDataStream.
func GrantKDE(ctx context.Context, bus *Bus, x, y int) (string, error) {
	return grant(ctx, bus, restoreData{"KDE", 1, dbus.MakeVariant(kdeOutputs(fmt.Sprintf("%dx%d", x, y)))})
}

func grant(ctx context.Context, bus *Bus, data restoreData) (string, error) {
	token := newToken()
	everyone := map[string][]string{"": {"yes"}} // "" is any program outside a sandbox
	err := bus.Object(storeService, storePath).
		CallWithContext(ctx, storeService+".Set", 0, castTable, true, token, everyone, dbus.MakeVariant(data)).Err
	if err != nil {
		return "", fmt.Errorf("write to the permission store: %w", err)
	}
	return token, nil
}

// newToken is a random UUID, which is what the portal makes too.
func newToken() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// The types of a QVariant in a QDataStream.
const (
	qVariantList = 9
	qString      = 10
)

// kdeOutputs is {"outputs": [name]}.
func kdeOutputs(name string) []byte {
	list := binary.BigEndian.AppendUint32(nil, 1)
	list = append(list, qVariant(qString, qStringBytes(name))...)
	b := binary.BigEndian.AppendUint32(nil, 1)
	b = append(b, qStringBytes("outputs")...)
	return append(b, qVariant(qVariantList, list)...)
}

func qVariant(kind uint32, payload []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, kind)
	b = append(b, 0) // not null
	return append(b, payload...)
}

func qStringBytes(s string) []byte {
	units := utf16.Encode([]rune(s))
	b := binary.BigEndian.AppendUint32(nil, uint32(2*len(units)))
	for _, u := range units {
		b = binary.BigEndian.AppendUint16(b, u)
	}
	return b
}
