package gateway

import (
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// ProxyHeader is the one header in which the trusted proxies say who came to them. The other is a stranger's: a proxy that sets one passes on
// what a browser wrote into the other.
type ProxyHeader string

// The closed set of them.
const (
	XForwardedFor ProxyHeader = "x-forwarded-for"
	Forwarded     ProxyHeader = "forwarded" // RFC 7239
)

func (h ProxyHeader) valid() bool { return h == XForwardedFor || h == Forwarded }

func (h ProxyHeader) other() ProxyHeader {
	if h == Forwarded {
		return XForwardedFor
	}
	return Forwarded
}

// last cuts off the last hop, the one that the nearest proxy wrote. It reads from the end, so that what a stranger wrote at the beginning, for
// instance a quote that does not end, changes nothing of what proxies wrote after it.
func (h ProxyHeader) last(text string) (rest, hop string) {
	quoted := false
	for i := len(text) - 1; i >= 0; i-- {
		switch {
		case h == Forwarded && text[i] == '"' && !escaped(text, i):
			quoted = !quoted
		case text[i] == ',' && !quoted:
			return text[:i], strings.TrimSpace(text[i+1:])
		}
	}
	return "", strings.TrimSpace(text)
}

// escaped reports whether an odd number of backslashes is before i.
func escaped(text string, i int) bool {
	before := strings.TrimRight(text[:i], `\`)
	return (i-len(before))%2 == 1
}

func (h ProxyHeader) address(hop string) (netip.Addr, bool) {
	if h == Forwarded {
		node, ok := forwardedFor(hop)
		if !ok {
			return netip.Addr{}, false
		}
		hop = node
	}
	return parseHop(hop)
}

// clientAddr is the address of the person. What a trusted proxy says and we do not understand is counted, and told once.
func (g *Gateway) clientAddr(r *http.Request) netip.Addr {
	addr, odd := clientAddr(r, g.cfg.TrustedProxies, g.cfg.TrustedProxyHeader)
	if odd != "" {
		g.metrics.oddProxies.Inc()
		g.oddProxy.Do(func() {
			g.log.Warn("a trusted proxy does not say in trusted_proxy_header which address a request comes from; its own address counts for all who come through it",
				"remote", r.RemoteAddr, "trusted_proxy_header", string(g.cfg.TrustedProxyHeader), "cause", strconv.Quote(printable(odd)))
		})
	}
	return addr
}

// clientAddr is the address of the person: the connection's, or, behind trusted proxies, the last one in their header that is none of them.
// What stands left of it anybody may have written. odd is what had to be understood and was not: an entry, or the other header alone.
func clientAddr(r *http.Request, trusted []netip.Prefix, header ProxyHeader) (addr netip.Addr, odd string) {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}, "" // a unix socket of the embedding process
	}
	addr = peer.Addr().Unmap()
	isTrusted := func(a netip.Addr) bool {
		return slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	text := strings.Join(r.Header.Values(string(header)), ",")
	if other := header.other(); text == "" && isTrusted(addr) && r.Header.Get(string(other)) != "" {
		return addr, "only the header " + string(other)
	}
	for text != "" && isTrusted(addr) {
		var hop string
		if text, hop = header.last(text); hop == "" {
			continue // lists of headers may have empty entries
		}
		next, ok := header.address(hop)
		if !ok {
			return addr, hop
		}
		addr = next.Unmap().WithZone("")
	}
	return addr, ""
}

// parseHop reads an address as proxies write it: alone, with a port, or in brackets.
func parseHop(hop string) (netip.Addr, bool) {
	if withPort, err := netip.ParseAddrPort(hop); err == nil {
		return withPort.Addr(), true
	}
	if inner, ok := strings.CutPrefix(hop, "["); ok {
		if inner, ok = strings.CutSuffix(inner, "]"); !ok {
			return netip.Addr{}, false
		}
		hop = inner
	}
	addr, err := netip.ParseAddr(hop)
	return addr, err == nil
}

// forwardedFor is the node of for= in one element of Forwarded, without an obfuscated port (:_name). An element names it once. Values that
// have to be quoted and are not are read all the same, since proxies write them.
func forwardedFor(element string) (node string, ok bool) {
	for element != "" {
		name, rest, found := strings.Cut(element, "=")
		if !found {
			return "", false
		}
		value, rest, valid := pairValue(rest)
		if !valid {
			return "", false
		}
		element = strings.TrimSpace(rest)
		if !strings.EqualFold(strings.TrimSpace(name), "for") {
			continue
		}
		if ok {
			return "", false
		}
		node, ok = value, true
	}
	if at := strings.LastIndex(node, ":_"); at > 0 {
		node = node[:at]
	}
	return node, ok
}

// pairValue reads a value, quoted or not, and the semicolon behind it.
func pairValue(text string) (value, rest string, ok bool) {
	if !strings.HasPrefix(text, `"`) {
		value, rest, _ = strings.Cut(text, ";")
		value = strings.TrimSpace(value)
		return value, rest, value != "" && !strings.ContainsAny(value, "\" \t=")
	}
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			if i++; i == len(text) {
				return "", "", false
			}
			b.WriteByte(text[i])
		case '"':
			rest = strings.TrimSpace(text[i+1:])
			after, more := strings.CutPrefix(rest, ";")
			return b.String(), after, more || rest == ""
		default:
			b.WriteByte(text[i])
		}
	}
	return "", "", false
}
