package origin

import (
	"strings"
	"testing"
)

// Every way to write an origin gives the one that browsers write, and none gives another's.
func TestSame(t *testing.T) {
	for in, want := range map[string]string{
		"https://desk.example": "https://desk.example", "https://desk.example:443/": "https://desk.example", "HTTPS://Desk.EXAMPLE.": "https://desk.example",
		"https://desk.example:": "https://desk.example", "https://desk.example.:0443": "https://desk.example", "http://desk.example:80": "http://desk.example",
		"http://desk.example:443": "http://desk.example:443", "https://desk.example:80": "https://desk.example:80", "https://desk.example:8443": "https://desk.example:8443",
		"https://BÜRO.example": "https://xn--bro-hoa.example", "https://bu\u0308ro.example": "https://xn--bro-hoa.example", "https://XN--bro-hoa.example": "https://xn--bro-hoa.example",
		"https://straße.example": "https://xn--strae-oqa.example", "https://desk。example": "https://desk.example", "https://ｄｅｓｋ.example": "https://desk.example",
		"https://b%C3%BCro.example": "https://xn--bro-hoa.example", "https://my_desk": "https://my_desk",
		"http://127.0.0.1:80": "http://127.0.0.1", "https://[2001:DB8:0::1]:443": "https://[2001:db8::1]", "http://[::1]:8080": "http://[::1]:8080",
	} {
		o, err := Parse(in)
		if err != nil || o.String() != want {
			t.Errorf("%s: %s, %v; want %s", in, o, err, want)
			continue
		}
		if again, err := Parse(o.String()); err != nil || again != o {
			t.Errorf("%s: read again %v, %v", o, again, err)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, in := range []string{"", "null", "desk.example", "ftp://desk.example", "https://", "https://:443", "https://.", "https://a..b", "https://.a", "https://desk.example/x",
		"https://desk.example//", "https://desk.example?", "https://desk.example?q", "https://desk.example#", "https://u@desk.example", "https://desk.example:0", "https://desk.example:65536",
		"https://desk.example:x", "https://1.2.3", "https://0x7f.1", "https://0x7f000001", "https://256.1.1.1", "https://[::1", "https://[fe80::1%25eth0]", "https://a b", "https://a／b",
		"https://a\x00b", "https://xn--\u00fc", "https://" + strings.Repeat("a", 2000), "https://" + strings.Repeat("a.", 200) + "example"} {
		if o, err := Parse(in); err == nil {
			t.Errorf("%q: read as %s", in, o)
		}
	}
}

func TestHasHost(t *testing.T) {
	for _, c := range []struct {
		origin, host string
		want         bool
	}{
		{"https://desk.example", "desk.example", true}, {"https://desk.example", "DESK.example.:443", true}, {"https://desk.example", "desk.example:80", false},
		{"http://desk.example", "desk.example:80", true}, {"https://büro.example", "xn--bro-hoa.example", true}, {"https://desk.example", "evil.example", false},
		{"https://desk.example", "desk.example/", false}, {"https://desk.example", "", false}, {"https://desk.example", "x@desk.example", false},
		{"https://desk.example", "desk.example.evil.example", false}, {"https://[2001:db8::1]", "[2001:db8:0:0::1]:443", true},
	} {
		o, err := Parse(c.origin)
		if err != nil {
			t.Fatal(err)
		}
		if got := o.HasHost(c.host); got != c.want {
			t.Errorf("%s has the host %q: %v", c.origin, c.host, got)
		}
	}
	for in, want := range map[string]bool{"http://LOCALHOST.": true, "http://a.localhost": true, "http://127.9.9.9": true, "http://[::1]": true, "http://localhost.example": false, "http://10.0.0.1": false} {
		if o, err := Parse(in); err != nil || o.Loopback() != want {
			t.Errorf("%s: loopback %v, %v", in, o.Loopback(), err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"https://desk.example:443", "https://BÜRO.example.", "http://[::1]:80", "null", "https://xn--bro-hoa.example"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		o, err := Parse(s)
		if err != nil {
			return
		}
		if again, err := Parse(o.String()); err != nil || again != o {
			t.Fatalf("%q: %s, read again %v, %v", s, o, again, err)
		}
	})
}
