// Package origin knows when two ways of writing a web origin, or a host, mean the same one. Operators write addresses as they please, browsers
// write one form, proxies add a port: whoever compares them compares an Origin, never text.
package origin

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// maxText bounds what is looked at: a name has 253 bytes at most, and a stranger writes the headers.
const maxText = 1024

// Origin is scheme, host and port in the form that browsers write. Two origins are the same exactly if they are equal by ==.
type Origin struct {
	scheme string     // http or https
	name   string     // lower case, punycode, without a dot at the end; empty for an address
	addr   netip.Addr // instead of a name
	port   uint16     // never 0
}

// names maps as browsers do (UTS 46, not transitional). An underscore stays allowed: internal names have it.
var names = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.StrictDomainName(false))

// Parse reads scheme://host[:port], with or without a slash at the end.
func Parse(s string) (Origin, error) {
	if len(s) > maxText {
		return Origin{}, fmt.Errorf("origin of %d bytes: at most %d are read", len(s), maxText)
	}
	u, err := url.Parse(s)
	if err != nil {
		return Origin{}, fmt.Errorf("origin: %w", err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || (u.Path != "" && u.Path != "/") ||
		u.RawQuery != "" || u.ForceQuery || strings.Contains(s, "#") {
		return Origin{}, fmt.Errorf("origin %q: must be scheme://host[:port], with http or https", s)
	}
	o := Origin{scheme: u.Scheme}
	if o.port, err = portOf(u); err != nil {
		return Origin{}, fmt.Errorf("origin %q: %w", s, err)
	}
	o.name, o.addr, err = hostOf(u)
	if err != nil {
		return Origin{}, fmt.Errorf("origin %q: %w", s, err)
	}
	return o, nil
}

func portOf(u *url.URL) (uint16, error) {
	switch {
	case u.Port() == "" && u.Scheme == "https":
		return 443, nil
	case u.Port() == "":
		return 80, nil
	}
	n, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("port %q: must be 1 to 65535", u.Port())
	}
	return uint16(n), nil
}

func hostOf(u *url.URL) (string, netip.Addr, error) {
	host := u.Hostname()
	if strings.HasPrefix(u.Host, "[") {
		addr, err := netip.ParseAddr(host)
		if err != nil || addr.Zone() != "" {
			return "", netip.Addr{}, fmt.Errorf("host %q: must be an IPv6 address without a zone", host)
		}
		return "", addr, nil
	}
	name, err := Name(host)
	if err != nil {
		return "", netip.Addr{}, err
	}
	if addr, err := netip.ParseAddr(name); err == nil {
		return "", addr, nil
	}
	if last := name[strings.LastIndexByte(name, '.')+1:]; strings.HasPrefix(last, "0x") || strings.Trim(last, "0123456789") == "" {
		return "", netip.Addr{}, fmt.Errorf("host %q: an IPv4 address has four decimal numbers", host)
	}
	return name, netip.Addr{}, nil
}

// Name is the form of a DNS name in which two are the same: lower case, punycode, without the root's dot.
func Name(s string) (string, error) {
	name, err := names.ToASCII(s)
	if err != nil {
		return "", fmt.Errorf("host %q: %w", s, err)
	}
	name = strings.TrimSuffix(name, ".")
	strange := func(r rune) bool { return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789-_.", r) }
	if name == "" || len(name) > 253 || strings.HasPrefix(name, ".") || strings.Contains(name, "..") || strings.ContainsFunc(name, strange) {
		return "", fmt.Errorf("host %q: is no name of letters, digits, hyphens and dots", s)
	}
	return name, nil
}

// String is the origin as browsers write it: the scheme's own port is left out.
func (o Origin) String() string {
	host := o.name
	switch {
	case o.addr.Is6():
		host = "[" + o.addr.String() + "]"
	case o.addr.IsValid():
		host = o.addr.String()
	}
	if (o.scheme == "https" && o.port == 443) || (o.scheme == "http" && o.port == 80) {
		return o.scheme + "://" + host
	}
	return o.scheme + "://" + host + ":" + strconv.Itoa(int(o.port))
}

// Secure reports whether it is https.
func (o Origin) Secure() bool { return o.scheme == "https" }

// Port is the port, also where it is the scheme's own.
func (o Origin) Port() uint16 { return o.port }

// Loopback reports whether the host is this machine by name or by address.
func (o Origin) Loopback() bool {
	return o.addr.IsLoopback() || o.name == "localhost" || strings.HasSuffix(o.name, ".localhost")
}

// HasHost reports whether a Host header, host[:port], names this origin for whoever reaches it by its scheme.
func (o Origin) HasHost(host string) bool {
	other, err := Parse(o.scheme + "://" + host)
	return err == nil && other == o && !strings.ContainsAny(host, "/?#@")
}
