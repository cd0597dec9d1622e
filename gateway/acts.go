package gateway

import (
	"strings"
	"time"

	"github.com/wavry/fleet/gateway/credential"
	"github.com/wavry/fleet/gateway/store"
)

// actOf is an entry for the audit log.
func (g *Gateway) actOf(actor, address, what, subject, detail string) store.Act {
	return store.Act{Event: credential.NewID("e-"), At: g.cfg.Now(), Actor: actor, Address: address, Act: what,
		Subject: subject, Detail: cut(detail, 4*maxReason)}
}

// act is an entry for what the caller does.
func (c *call) act(what, subject, detail string) store.Act {
	return c.gw.actOf(c.in.User.Name, addressText(c), what, subject, detail)
}

func addressText(c *call) string {
	if !c.addr.IsValid() {
		return ""
	}
	return c.addr.String()
}

func (c *call) now() time.Time { return c.gw.cfg.Now() }

// cut shortens text to at most most bytes of valid UTF-8.
func cut(text string, most int) string {
	if len(text) > most {
		text = text[:most]
	}
	return strings.ToValidUTF8(text, "")
}
