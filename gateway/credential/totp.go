package credential

import (
	"crypto/subtle"
	"fmt"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"github.com/pquerna/otp/totp"
	"github.com/skip2/go-qrcode"
)

const (
	totpPeriod = 30 // seconds, RFC 6238's default and the only one every app knows
	totpSkew   = 1  // steps before and after now: clocks of phones are within half a minute
	qrSize     = 256
)

// TOTP is a new second factor as it is shown to a person once.
type TOTP struct {
	Secret Secret // base32
	URI    string // otpauth://, holds the secret
	QR     []byte // PNG of URI
}

// NewTOTP makes a secret for account at issuer.
func NewTOTP(issuer, account string) (TOTP, error) {
	key, err := totp.Generate(totp.GenerateOpts{Issuer: issuer, AccountName: account, Period: totpPeriod, SecretSize: 20})
	if err != nil {
		return TOTP{}, fmt.Errorf("make TOTP secret: %w", err)
	}
	qr, err := qrcode.Encode(key.URL(), qrcode.Medium, qrSize)
	if err != nil {
		return TOTP{}, fmt.Errorf("draw QR code: %w", err)
	}
	return TOTP{Secret: Secret(key.Secret()), URI: key.URL(), QR: qr}, nil
}

// MatchTOTP returns the time step whose code this is. The caller accepts each step once.
func MatchTOTP(secret Secret, code string, now time.Time) (step int64, ok bool) {
	present := now.Unix() / totpPeriod
	for s := present - totpSkew; s <= present+totpSkew; s++ {
		want, err := hotp.GenerateCodeCustom(string(secret), uint64(s), hotp.ValidateOpts{Digits: otp.DigitsSix})
		if err != nil {
			return 0, false // a secret that is no base32 fits no code
		}
		if subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1 {
			step, ok = s, true
		}
	}
	return step, ok
}

// CleanCode takes out of a code what apps and people put between its digits.
func CleanCode(code string) string {
	return strings.NewReplacer(" ", "", "\u00a0", "", "-", "").Replace(code)
}

// IsTOTP reports whether code looks like a TOTP code rather than a recovery code.
func IsTOTP(code string) bool {
	if len(code) != 6 {
		return false
	}
	for _, c := range code {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}
