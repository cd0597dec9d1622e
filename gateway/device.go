package gateway

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/wavry/fleet/gateway/credential"
	"github.com/wavry/fleet/gateway/store"
)

// A browser that has signed in gets a second cookie, which outlives the login. It signs nobody in: it only says that the owner of this
// name has been here, so that the browser has limits of its own, and strangers who try the name, or come from the same network, do not
// keep its owner out. (OWASP calls it a device cookie.) It is sealed with the gateways' key and holds for one name.

const deviceCookie = "wavry-device"

// rememberDevice gives the browser its device cookie, after its person has signed in.
func (c *call) rememberDevice(name string) {
	text := credential.NewID("d-") + " " + strconv.FormatInt(c.now().Unix(), 10)
	c.setCookie(c.gw.hostCookie(deviceCookie), c.open.sealer.Seal(credential.Secret(text), deviceOwner(name)), int(deviceLifetime.Seconds()), http.SameSiteStrictMode)
}

// device is the id of this browser if the account of this name has signed in with it, else empty.
func (c *call) device(name string) string {
	cookie, err := c.Cookie(c.gw.hostCookie(deviceCookie))
	if err != nil || len(cookie.Value) > maxReason {
		return ""
	}
	text, err := c.open.sealer.Open(cookie.Value, deviceOwner(name))
	if err != nil {
		return "" // another name's, or nothing of ours
	}
	id, issued, _ := strings.Cut(string(text), " ")
	if at, err := strconv.ParseInt(issued, 10, 64); err != nil || c.now().Unix()-at > int64(deviceLifetime.Seconds()) {
		return ""
	}
	return id
}

// deviceOwner is what the cookie is sealed for. No account id is like it, so nothing else that is sealed opens as a device.
func deviceOwner(name string) string { return "device " + store.NameKey(name) }
