package gateway

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/gateway/store"
)

// The first admin comes in by the announced link, once; there is no other way in, and no link after that.
func TestFirstAdmin(t *testing.T) {
	s := startSite(t)
	b := s.browser()
	b.refused(http.StatusUnauthorized, signalapi.ReasonNotSignedIn, "GET", signalapi.PathMe, nil)
	b.refused(http.StatusUnauthorized, signalapi.ReasonBadCredentials, "POST", signalapi.PathSignIn, signalapi.SignIn{Name: "admin", Password: "admin"})
	admin := s.admin()
	if me := ok[signalapi.Me](admin, "GET", signalapi.PathMe, nil); !me.Admin || !me.Password || me.TOTP {
		t.Fatalf("me %+v", me)
	}
	b.refused(http.StatusUnauthorized, signalapi.ReasonLinkUsed, "POST", signalapi.PathSignIn, signalapi.SignIn{Link: token(s.first), Name: "mallory", Password: goodPassword})
	s.stop()
	if again := runSite(t, s.fleet, s.cfg); again.first != "" {
		t.Fatal("a second start announces a link although there is an admin")
	}
}

// Invitation, own password, sign-out, sign-in; the cookie is out of reach of scripts and other sites.
func TestInviteAndPassword(t *testing.T) {
	s := startSite(t)
	admin := s.admin()
	invite := ok[signalapi.Invite](admin, "POST", signalapi.PathAdminUsers, signalapi.NewUser{Name: "Ada", Role: "viewer"})
	ada := s.browser()
	ada.refused(http.StatusUnauthorized, signalapi.ReasonPasswordNeeded, "POST", signalapi.PathSignIn, signalapi.SignIn{Link: token(invite.URL)})
	for _, weak := range []string{"short", "ada password"} {
		ada.refused(http.StatusBadRequest, signalapi.ReasonBadRequest, "POST", signalapi.PathSignIn, signalapi.SignIn{Link: token(invite.URL), Password: weak})
	}
	if me := ok[signalapi.Me](ada, "POST", signalapi.PathSignIn, signalapi.SignIn{Link: token(invite.URL), Password: goodPassword}); !me.Password {
		t.Errorf("me %+v", me)
	}
	ada.refused(http.StatusUnauthorized, signalapi.ReasonBadCredentials, "POST", signalapi.PathPassword, signalapi.PasswordChange{Old: "wrong", New: goodPassword + "2"})
	ok[none](ada, "POST", signalapi.PathSignOut, nil)
	ada.refused(http.StatusUnauthorized, signalapi.ReasonNotSignedIn, "GET", signalapi.PathMe, nil)

	req, err := http.NewRequest("POST", s.URL()+signalapi.PathSignIn, strings.NewReader(fmt.Sprintf(`{"name":" ADA ","password":%q}`, goodPassword)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(signalapi.CSRFHeader, "1")
	resp, err := ada.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	cookies := resp.Cookies()
	if resp.StatusCode != http.StatusOK || len(cookies) != 2 || !cookies[0].HttpOnly || cookies[0].SameSite != http.SameSiteStrictMode || len(cookies[0].Value) != 43 {
		t.Fatalf("sign-in %d, cookies %v", resp.StatusCode, cookies)
	}
	logins := ok[[]signalapi.Login](ada, "GET", signalapi.PathLogins, nil)
	if len(logins) != 1 || !logins[0].Current || logins[0].Method != store.MethodPassword || logins[0].Address != "127.0.0.1" {
		t.Fatalf("logins %+v", logins)
	}
	ok[none](ada, "DELETE", signalapi.PathLogins+"/"+logins[0].ID, nil)
	ada.refused(http.StatusUnauthorized, signalapi.ReasonNotSignedIn, "GET", signalapi.PathMe, nil)
}

// clock is a time that tests move.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func withClock(c *clock) func(*Config) { return func(cfg *Config) { cfg.Now = c.now } }

func newClock() *clock { return &clock{at: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)} }

// The second factor: set up with QR, asked for, each code once, recovery codes once, taken away with a code only.
func TestTOTP(t *testing.T) {
	c := newClock()
	s := startSite(t, withClock(c))
	admin := s.admin()
	ada, user := s.person(admin, "ada", store.RoleViewer)
	setup := ok[signalapi.TOTPSetup](ada, "POST", signalapi.PathTOTPBegin, nil)
	if !strings.HasPrefix(setup.URI, "otpauth://totp/Wavry:ada") || len(setup.QR) < 100 {
		t.Fatalf("setup %q with %d bytes of picture", setup.URI, len(setup.QR))
	}
	code := func() string {
		text, err := totp.GenerateCode(setup.Secret, c.now())
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	ada.refused(http.StatusUnauthorized, signalapi.ReasonBadCredentials, "POST", signalapi.PathTOTPConfirm, signalapi.TOTPCode{Code: "000000", Password: goodPassword})
	codes := ok[signalapi.RecoveryCodes](ada, "POST", signalapi.PathTOTPConfirm, signalapi.TOTPCode{Code: code(), Password: goodPassword}).Codes
	if len(codes) != 10 {
		t.Fatalf("%d recovery codes", len(codes))
	}
	// A stolen cookie must not replace the second factor: it has to be proven away first.
	ok[signalapi.TOTPSetup](ada, "POST", signalapi.PathTOTPBegin, nil)
	ada.refused(http.StatusBadRequest, signalapi.ReasonBadRequest, "POST", signalapi.PathTOTPConfirm, signalapi.TOTPCode{Code: code(), Password: goodPassword})
	try := func(code string) signalapi.SignIn {
		c.add(time.Minute) // past the rate limits and into the next step
		return signalapi.SignIn{Name: "ada", Password: goodPassword, TOTP: code}
	}
	b := s.browser()
	b.refused(http.StatusUnauthorized, signalapi.ReasonTOTPRequired, "POST", signalapi.PathSignIn, try(""))
	b.refused(http.StatusUnauthorized, signalapi.ReasonBadCredentials, "POST", signalapi.PathSignIn, try("123456"))
	c.add(time.Minute)
	good := code()
	ok[signalapi.Me](b, "POST", signalapi.PathSignIn, signalapi.SignIn{Name: "ada", Password: goodPassword, TOTP: good})
	b.refused(http.StatusUnauthorized, signalapi.ReasonBadCredentials, "POST", signalapi.PathSignIn, signalapi.SignIn{Name: "ada", Password: goodPassword, TOTP: good})
	ok[signalapi.Me](b, "POST", signalapi.PathSignIn, try(strings.ToUpper(codes[0])))
	b.refused(http.StatusUnauthorized, signalapi.ReasonBadCredentials, "POST", signalapi.PathSignIn, try(codes[0]))
	b.refused(http.StatusBadRequest, signalapi.ReasonBadRequest, "POST", signalapi.PathTOTPDisable, signalapi.TOTPCode{Password: goodPassword})
	c.add(time.Minute)
	fresh := ok[signalapi.RecoveryCodes](b, "POST", signalapi.PathRecoveryCodes, signalapi.TOTPCode{Code: code(), Password: goodPassword}).Codes
	b.refused(http.StatusUnauthorized, signalapi.ReasonBadCredentials, "POST", signalapi.PathSignIn, try(codes[1]))
	c.add(time.Minute)
	ok[none](b, "POST", signalapi.PathTOTPDisable, signalapi.TOTPCode{Code: fresh[3], Password: goodPassword})
	ok[signalapi.Me](b, "POST", signalapi.PathSignIn, try(""))

	setup = ok[signalapi.TOTPSetup](ada, "POST", signalapi.PathTOTPBegin, nil)
	ok[signalapi.RecoveryCodes](ada, "POST", signalapi.PathTOTPConfirm, signalapi.TOTPCode{Code: code(), Password: goodPassword})
	ok[none](admin, "DELETE", signalapi.PathAdminUser+user.ID+"/totp", nil)
	if got := ok[signalapi.User](admin, "GET", signalapi.PathAdminUser+user.ID, nil); got.TOTP {
		t.Fatal("the second factor was not reset")
	}
	// The secret is not in the store as it is.
	u, err := s.open.Load().store.UserByName(t.Context(), "ada")
	if err != nil || strings.Contains(u.TOTPSecret+u.TOTPPending, setup.Secret) {
		t.Fatalf("stored second factor of %+v, %v", u, err)
	}
}

// A code may be typed as apps show it, and one that was used is called so.
func TestCodesAsTheyAreShown(t *testing.T) {
	c := newClock()
	s := startSite(t, withClock(c))
	ada, _ := s.person(s.admin(), "ada", store.RoleViewer)
	setup := ok[signalapi.TOTPSetup](ada, "POST", signalapi.PathTOTPBegin, nil)
	code := func() string { return must(totp.GenerateCode(setup.Secret, c.now())) }
	ok[signalapi.RecoveryCodes](ada, "POST", signalapi.PathTOTPConfirm, signalapi.TOTPCode{Code: code()[:3] + " " + code()[3:], Password: goodPassword})
	for _, between := range []string{" ", "-", "\u00a0"} {
		c.add(time.Minute)
		in := signalapi.SignIn{Name: "ada", Password: goodPassword, TOTP: " " + code()[:3] + between + code()[3:] + " "}
		ok[signalapi.Me](ada, "POST", signalapi.PathSignIn, in)
		if r := ada.refused(http.StatusUnauthorized, signalapi.ReasonBadCredentials, "POST", signalapi.PathSignIn, in); !strings.Contains(r.Message, "used before") {
			t.Errorf("a used code is refused with %q", r.Message)
		}
	}
}

// A guesser is slowed down by account, by name and by address, on a name that exists like on one that does not, and the
// owner comes in again after the wait.
func TestBruteForce(t *testing.T) {
	for _, name := range []string{"ada", "nobody"} {
		t.Run(name, func(t *testing.T) {
			c := newClock()
			s := startSite(t, withClock(c))
			s.person(s.admin(), "ada", store.RoleViewer)
			b := s.browser()
			limited := 0
			for range 3 * nameBurst {
				status, _ := b.try("POST", signalapi.PathSignIn, signalapi.SignIn{Name: name, Password: "guess"})
				switch status {
				case http.StatusTooManyRequests:
					limited++
				case http.StatusUnauthorized:
				default:
					t.Fatalf("status %d", status)
				}
			}
			if limited < 2*nameBurst {
				t.Fatalf("only %d of %d guesses were refused for their rate", limited, 3*nameBurst)
			}
		})
	}
	t.Run("over time", func(t *testing.T) {
		c := newClock()
		s := startSite(t, withClock(c))
		s.person(s.admin(), "ada", store.RoleViewer)
		b := s.browser()
		guesses := 0
		for range 360 { // an hour, a guess each 10 s
			c.add(10 * time.Second)
			if status, _ := b.try("POST", signalapi.PathSignIn, signalapi.SignIn{Name: "ada", Password: "guess"}); status == http.StatusUnauthorized {
				guesses++
			}
		}
		if guesses > 30 {
			t.Fatalf("%d guesses were answered within an hour", guesses)
		}
		r := b.refused(http.StatusTooManyRequests, signalapi.ReasonRateLimited, "POST", signalapi.PathSignIn, signalapi.SignIn{Name: "ada", Password: goodPassword})
		c.add(time.Duration(r.RetrySeconds) * time.Second)
		ok[signalapi.Me](b, "POST", signalapi.PathSignIn, signalapi.SignIn{Name: "ada", Password: goodPassword})
	})
}

// Strangers who try a name do not keep its owner out: a browser that has signed in before has a budget of its own, which is bounded, holds
// for that name only, and gets nobody in.
func TestOwnersBrowser(t *testing.T) {
	c := newClock()
	s := startSite(t, withClock(c))
	admin := s.admin()
	ada, _ := s.person(admin, "ada", store.RoleViewer)
	s.person(admin, "bob", store.RoleViewer)
	ok[none](ada, "POST", signalapi.PathSignOut, nil)
	ada.refused(http.StatusUnauthorized, signalapi.ReasonNotSignedIn, "GET", signalapi.PathMe, nil)
	stranger := s.browser()
	try := func(b *browser, name, password string) int {
		status, _ := b.try("POST", signalapi.PathSignIn, signalapi.SignIn{Name: name, Password: password})
		return status
	}
	flood := func() {
		for range 2 * nameBurst {
			try(stranger, "ada", "guess")
		}
		if status := try(stranger, "ada", goodPassword); status != http.StatusTooManyRequests {
			t.Fatalf("a stranger is not limited: %d", status)
		}
	}
	for range 10 {
		flood()
		if status := try(ada, "ADA", goodPassword); status != http.StatusOK {
			t.Fatalf("the owner, in a browser of theirs: %d", status)
		}
		ok[none](ada, "POST", signalapi.PathSignOut, nil)
		c.add(ownEvery)
	}
	// Another name in this browser is a stranger's try, and so is a cookie that was tampered with.
	for range nameBurst {
		try(stranger, "bob", "guess")
		c.add(addressEvery)
	}
	if status := try(ada, "bob", goodPassword); status != http.StatusTooManyRequests {
		t.Errorf("the cookie of one name counts for another: %d", status)
	}
	c.add(time.Hour)
	flood()
	at := must(url.Parse(s.URL()))
	for _, cookie := range ada.client.Jar.Cookies(at) {
		if strings.HasSuffix(cookie.Name, deviceCookie) {
			cookie.Value = "A" + cookie.Value[1:] + "AAAA"
			stranger.client.Jar.SetCookies(at, []*http.Cookie{cookie})
		}
	}
	if status := try(stranger, "ada", goodPassword); status != http.StatusTooManyRequests {
		t.Errorf("a cookie that was tampered with is taken: %d", status)
	}
	answered := 0
	for range 60 { // ten minutes with the cookie of somebody's old machine
		if try(ada, "ada", "guess") == http.StatusUnauthorized {
			answered++
		}
		c.add(10 * time.Second)
	}
	if answered > ownBurst+10 {
		t.Errorf("%d guesses with a stolen cookie within ten minutes", answered)
	}
}

// A stranger learns from no number of tries whether there is an account: statuses, waits and words are the same, and nothing is written
// for the one that is there.
func TestUnknownNamesAnswerAlike(t *testing.T) {
	var answers [2][]string
	for i, name := range []string{"ada", "nobody"} {
		c := newClock()
		s := startSite(t, withClock(c))
		s.person(s.admin(), "ada", store.RoleViewer)
		audited := func() int {
			return len(must(s.open.Load().store.Audit(t.Context(), 0, store.MaxAuditPage)))
		}
		before := audited()
		b := s.browser()
		for n := range 60 {
			status, body := b.try("POST", signalapi.PathSignIn, signalapi.SignIn{Name: name, Password: "guess"})
			answers[i] = append(answers[i], fmt.Sprint(status, string(body)))
			if n > 15 {
				c.add(time.Duration(n) * time.Second)
			}
		}
		if after := audited(); after != before {
			t.Errorf("%s: the audit log grew by %d", name, after-before)
		}
	}
	for n := range answers[0] {
		if answers[0][n] != answers[1][n] {
			t.Fatalf("try %d is answered %s for an account, %s for none", n+1, answers[0][n], answers[1][n])
		}
	}
}

// A clock that was an hour ahead and is right again makes nobody wait longer than the limits say.
func TestClockThatJumped(t *testing.T) {
	c := newClock()
	s := startSite(t, withClock(c))
	s.person(s.admin(), "ada", store.RoleViewer)
	b := s.browser()
	c.add(time.Hour)
	for range 2 * nameBurst {
		b.try("POST", signalapi.PathSignIn, signalapi.SignIn{Name: "ada", Password: "guess"})
	}
	c.add(-time.Hour)
	for waited := time.Duration(0); ; {
		status, body := b.try("POST", signalapi.PathSignIn, signalapi.SignIn{Name: "ada", Password: goodPassword})
		if status == http.StatusOK {
			break
		}
		wait := time.Duration(into[signalapi.Refusal](t, body).RetrySeconds) * time.Second
		if waited += wait; wait == 0 || waited > nameBurst*nameEvery {
			t.Fatalf("%d %s after %v", status, body, waited)
		}
		c.add(wait)
	}
}

// A login ends when it is idle or old, and lives on while it is used.
func TestLoginLifetime(t *testing.T) {
	c := newClock()
	s := startSite(t, withClock(c), func(cfg *Config) { cfg.LoginIdle, cfg.LoginLifetime = time.Hour, 3*time.Hour })
	admin := s.admin()
	for range 3 {
		c.add(50 * time.Minute)
		ok[signalapi.Me](admin, "GET", signalapi.PathMe, nil)
	}
	c.add(35 * time.Minute)
	admin.refused(http.StatusUnauthorized, signalapi.ReasonNotSignedIn, "GET", signalapi.PathMe, nil)
	ok[signalapi.Me](admin, "POST", signalapi.PathSignIn, signalapi.SignIn{Name: "root", Password: goodPassword})
	c.add(61 * time.Minute)
	admin.refused(http.StatusUnauthorized, signalapi.ReasonNotSignedIn, "GET", signalapi.PathMe, nil)
}

// A link does not sign a browser in as somebody else unasked; what is replaced ends. One's own link asks nothing.
func TestLinkOverLogin(t *testing.T) {
	s := startSite(t)
	admin := s.admin()
	ada, user := s.person(admin, "ada", store.RoleViewer)
	again := ok[signalapi.Invite](admin, "POST", signalapi.PathAdminUser+user.ID+"/invite", nil)
	ok[signalapi.Me](ada, "POST", signalapi.PathSignIn, signalapi.SignIn{Link: token(again.URL), Password: goodPassword})
	link, err := s.SignInLink(t.Context(), "mallory", store.RoleViewer)
	if err != nil {
		t.Fatal(err)
	}
	mallory := signalapi.SignIn{Link: token(link)}
	r := ada.refused(http.StatusConflict, signalapi.ReasonSignedIn, "POST", signalapi.PathSignIn, mallory)
	if !strings.Contains(r.Message, `"ada"`) || !strings.Contains(r.Message, `"mallory"`) {
		t.Errorf("the person is told %q", r.Message)
	}
	if me := ok[signalapi.Me](ada, "GET", signalapi.PathMe, nil); me.Name != "ada" {
		t.Fatalf("signed in as %s", me.Name)
	}
	had := ada.client.Jar.Cookies(must(url.Parse(s.URL())))[0]
	mallory.Replace = true
	if me := ok[signalapi.Me](ada, "POST", signalapi.PathSignIn, mallory); me.Name != "mallory" {
		t.Fatalf("signed in as %s", me.Name)
	}
	s.browser().refused(http.StatusUnauthorized, signalapi.ReasonNotSignedIn, "GET", signalapi.PathMe, nil, "Cookie", had.String())
}

// The first admin's link works for an hour.
func TestFirstAdminExpires(t *testing.T) {
	c := newClock()
	s := startSite(t, withClock(c))
	c.add(time.Hour)
	s.browser().refused(http.StatusUnauthorized, signalapi.ReasonLinkUsed, "POST", signalapi.PathSignIn, signalapi.SignIn{Link: token(s.first), Name: "root"})
	s.stop()
	again := runSite(t, s.fleet, s.cfg)
	c.add(time.Hour - time.Second)
	again.admin()
}

// The embedding process gets a link that signs in once, also for an account that exists already.
func TestSignInLink(t *testing.T) {
	s := startSite(t)
	for range 2 {
		link, err := s.SignInLink(t.Context(), "dev", store.RoleAdmin)
		if err != nil {
			t.Fatal(err)
		}
		b := s.browser()
		if me := ok[signalapi.Me](b, "POST", signalapi.PathSignIn, signalapi.SignIn{Link: token(link)}); me.Role != "admin" || me.Password {
			t.Fatalf("me %+v", me)
		}
		b.refused(http.StatusUnauthorized, signalapi.ReasonLinkUsed, "POST", signalapi.PathSignIn, signalapi.SignIn{Link: token(link)})
	}
}
