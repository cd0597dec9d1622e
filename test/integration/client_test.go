//go:build integration

package integration

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"

	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/proof"
	"github.com/wavry/fleet/hostruntime/streamwire"
	"github.com/wavry/fleet/hostruntime/transport"
)

// pictureLimit is how long a viewer waits for a picture or a message: a session goes on for 20 s without a working plugin.
const pictureLimit = 40 * time.Second

// client is a signed-in person without a browser: the protocol as it is on the wire.
type client struct {
	t    *testing.T
	url  string
	http *http.Client
	key  *proof.Key // of the page
}

// signIn redeems a sign-in link.
func signIn(t *testing.T, link string) *client {
	t.Helper()
	origin, token, ok := strings.Cut(link, "/#link=")
	if !ok {
		t.Fatalf("no sign-in link: %q", link)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	key, err := proof.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	c := &client{t: t, url: origin, http: &http.Client{Jar: jar, Transport: &http.Transport{}}, key: key}
	t.Cleanup(c.http.CloseIdleConnections)
	body, err := json.Marshal(signalapi.SignIn{Link: token})
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, origin+signalapi.PathSignIn, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set(signalapi.CSRFHeader, "1")
	response, err := c.http.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatalf("sign in: %s", response.Status)
	}
	return c
}

// get returns the body of a page.
func (c *client) get(path string) string {
	c.t.Helper()
	response, err := c.http.Get(c.url + path)
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		c.t.Fatalf("get %s: %s, %v", path, response.Status, err)
	}
	return string(body)
}

// grant asks for a desktop and checks that the host's identity vouches for its certificate.
func (c *client) grant() signalapi.Grant {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), pictureLimit)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, c.url+signalapi.PathSignal, &websocket.DialOptions{HTTPClient: c.http})
	if err != nil {
		c.t.Fatal(err)
	}
	defer ws.CloseNow()
	if err := wsjson.Write(ctx, ws, signalapi.Request{Type: signalapi.TypeConnect, ID: "1", Data: signalapi.Connect{Key: c.key.Thumbprint()}}); err != nil {
		c.t.Fatal(err)
	}
	var reply struct {
		Type string          `json:"type"`
		ID   string          `json:"id"`
		Data json.RawMessage `json:"data"`
	}
	for reply.ID != "1" {
		if err := wsjson.Read(ctx, ws, &reply); err != nil {
			c.t.Fatal(err)
		}
	}
	var g signalapi.Grant
	if err := json.Unmarshal(reply.Data, &g); err != nil || reply.Type != signalapi.TypeReply || len(g.Candidates) == 0 {
		c.t.Fatalf("grant: %s %s, %v", reply.Type, reply.Data, err)
	}
	statement := signalapi.CertificateStatement(g.Session, g.Certificate.Expiry, g.Certificate.Hashes)
	if !ed25519.Verify(g.Host.Identity, statement, g.Certificate.Signature) {
		c.t.Fatal("the grant's certificate is not signed by the host")
	}
	return g
}

// visit is one connection to a host.
type visit struct {
	*transport.ViewerConn
	t        *testing.T
	control  io.ReadWriteCloser
	messages *streamwire.MessageReader
}

// connect opens a session as a viewer of H.264.
func (c *client) connect() *visit {
	c.t.Helper()
	g := c.grant()
	ctx, cancel := context.WithTimeout(c.t.Context(), pictureLimit)
	defer cancel()
	conn, err := transport.Dial(ctx, g.Candidates[0].URL, g.Certificate.Hashes)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { conn.Close() })
	control, err := conn.Greet(ctx, &streamwire.Hello{Version: streamwire.Version, Codecs: []media.Codec{media.CodecH264}}, g.Host.Identity, c.key)
	if err != nil {
		c.t.Fatal(err)
	}
	return &visit{ViewerConn: conn, t: c.t, control: control, messages: streamwire.NewMessageReader(control)}
}

func (v *visit) send(m streamwire.Message) {
	v.t.Helper()
	if _, err := v.control.Write(streamwire.AppendMessage(nil, m)); err != nil {
		v.t.Fatal(err)
	}
}

// pictures waits for a keyframe and n units after it.
func (v *visit) pictures(n int) {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(v.t.Context(), pictureLimit)
	defer cancel()
	for key := false; n >= 0; {
		h, data, err := v.AcceptUnit(ctx)
		if err != nil {
			v.t.Fatal("waiting for pictures:", err)
		}
		if len(data) == 0 || h.Width == 0 {
			v.t.Fatalf("empty unit %+v", h)
		}
		if key = key || h.Keyframe; key {
			n--
		}
	}
}

// bye waits for the host's goodbye.
func (v *visit) bye() *streamwire.Bye {
	v.t.Helper()
	stop := time.AfterFunc(pictureLimit, func() { v.Close() })
	defer stop.Stop()
	for {
		m, err := v.messages.Next()
		if err != nil {
			v.t.Fatal("waiting for a goodbye:", err)
		}
		if bye, ok := m.(*streamwire.Bye); ok {
			return bye
		}
	}
}

// leave ends the session politely.
func (v *visit) leave() {
	v.t.Helper()
	v.send(&streamwire.Bye{Code: streamwire.CodeEnded})
	<-v.Done()
	v.Close()
}
