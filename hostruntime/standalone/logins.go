package standalone

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"sync"
	"time"
)

// logins keeps one-time links and signed-in browsers, by hash: a copy of this memory signs nobody in.
type logins struct {
	now func() time.Time

	mu    sync.Mutex // guards the following
	links map[hash]time.Time
	live  map[hash]time.Time
}

type hash [sha256.Size]byte

func newLogins(now func() time.Time) *logins {
	return &logins{now: now, links: map[hash]time.Time{}, live: map[hash]time.Time{}}
}

func (l *logins) newLink() (string, error) {
	token, err := newToken()
	if err != nil {
		return "", err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget(l.links)
	l.links[sha256.Sum256([]byte(token))] = l.now().Add(linkLife)
	return token, nil
}

// redeem turns a link into a login token, once.
func (l *logins) redeem(link string) (token string, ok bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := sha256.Sum256([]byte(link))
	expiry, known := l.links[key]
	delete(l.links, key)
	if !known || l.now().After(expiry) {
		return "", false, nil
	}
	token, err = newToken()
	if err != nil {
		return "", false, err
	}
	l.forget(l.live)
	l.live[sha256.Sum256([]byte(token))] = l.now().Add(loginLife)
	return token, true, nil
}

// login returns a stable id of the signed-in browser that has token.
func (l *logins) login(token string) (id string, ok bool) {
	key := sha256.Sum256([]byte(token))
	l.mu.Lock()
	defer l.mu.Unlock()
	expiry, known := l.live[key]
	if !known || l.now().After(expiry) {
		return "", false
	}
	return base64.RawURLEncoding.EncodeToString(key[:16]), true
}

func (l *logins) end(token string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.live, sha256.Sum256([]byte(token)))
}

// forget drops what has expired and, above maxLogins, what expires first.
func (l *logins) forget(m map[hash]time.Time) {
	now := l.now()
	var oldest hash
	var first time.Time
	for key, expiry := range m {
		if now.After(expiry) {
			delete(m, key)
		} else if first.IsZero() || expiry.Before(first) {
			oldest, first = key, expiry
		}
	}
	if len(m) >= maxLogins {
		delete(m, oldest)
	}
}

// newToken is 256 random bits, as text that fits in URLs and cookies.
func newToken() (string, error) {
	var b [32]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("make a token: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(b[:]), nil
}
