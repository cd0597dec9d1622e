package session

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/proof"
	"github.com/wavry/fleet/hostruntime/streamwire"
	"github.com/wavry/fleet/hostruntime/transport"
	"github.com/wavry/fleet/master/lease"
)

// Door is where every connection of a host's viewers begins: it is challenged, says hello, and proves that it holds the key its token names. Until
// then it is nobody: it sees nothing, its input is not read, and it takes no place from anybody.
type Door struct {
	identity ed25519.PublicKey
	metrics  *Metrics

	mu       sync.Mutex // guards the following
	unproven []*knock   // oldest first
}

// knock is a connection that has not proven anything yet.
type knock struct {
	lease string
	drop  context.CancelCauseFunc
}

// Entrant is a viewer that has proven itself. Only a Door makes one.
type Entrant struct {
	conn    transport.Conn
	control io.ReadWriteCloser
	claims  lease.ViewerClaims
	hello   *streamwire.Hello
}

// NewDoor makes the door of the host with this identity.
func NewDoor(identity ed25519.PublicKey, m *Metrics) *Door {
	return &Door{identity: identity, metrics: m}
}

// Enter lets the bearer of a viewer's token in, whose claims were verified. Whoever is not let in was told why (*RefusedError) or is gone.
func (d *Door) Enter(ctx context.Context, conn transport.Conn, token string, claims lease.ViewerClaims) (*Entrant, error) {
	ctx, done := d.knock(ctx, conn, claims.Lease)
	defer done()
	e, nonce, err := d.greet(ctx, conn)
	var refusal *RefusedError
	if errors.As(err, &refusal) {
		return nil, err // it is none of ours and was not asked for a proof
	}
	result := proofNone
	if err == nil {
		e.claims = claims
		result, err = d.prove(e.control, nonce, token, claims.Key.Thumbprint)
	} else if errors.Is(context.Cause(ctx), errCrowded) {
		result = proofCrowded
	}
	d.metrics.proofs.WithLabelValues(result).Inc()
	if e == nil {
		return nil, err
	}
	if err != nil {
		refused := &RefusedError{Code: streamwire.CodeProof, Text: "This page could not prove that the session is its own. Connect again."}
		return nil, errors.Join(refused, err, sayBye(conn, e.control, refused.Code, refused.Text))
	}
	return e, nil
}

// Refuse tells a viewer that has no session why, and closes its connection.
func (d *Door) Refuse(ctx context.Context, conn transport.Conn, why *RefusedError) error {
	ctx, done := d.knock(ctx, conn, "")
	defer done()
	e, _, err := d.greet(ctx, conn)
	if err != nil {
		return err
	}
	return errors.Join(why, sayBye(conn, e.control, why.Code, why.Text))
}

// knock counts a connection among those that have proven nothing, for helloTimeout at most. When there are too many of its lease, or at all, the
// oldest goes: an honest viewer's proof is one round trip away, and who only holds places gives them up first.
func (d *Door) knock(ctx context.Context, conn transport.Conn, leaseID string) (context.Context, func()) {
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	ctx, drop := context.WithCancelCause(ctx)
	stop := context.AfterFunc(ctx, func() { _ = conn.Close(streamwire.CodeProof, "no proof in time") })
	k := &knock{lease: leaseID, drop: drop}
	d.mu.Lock()
	d.makeRoom(leaseID)
	d.unproven = append(d.unproven, k)
	d.mu.Unlock()
	return ctx, func() {
		stop()
		drop(nil)
		cancel()
		d.mu.Lock()
		d.unproven = slices.DeleteFunc(d.unproven, func(other *knock) bool { return other == k })
		d.mu.Unlock()
	}
}

func (d *Door) makeRoom(leaseID string) {
	of, first := 0, -1
	for i, k := range d.unproven {
		if k.lease == leaseID {
			of++
			if first < 0 {
				first = i
			}
		}
	}
	switch {
	case of >= maxUnprovenOfLease:
	case len(d.unproven) >= maxUnproven:
		first = 0
	default:
		return
	}
	d.unproven[first].drop(errCrowded)
	d.unproven = slices.Delete(d.unproven, first, first+1)
}

// errCrowded ends a connection that newer ones have pushed out.
var errCrowded = errors.New("too many connections that have proven nothing")

// greet challenges the viewer and reads its hello. A viewer that cannot work with us is told so.
func (d *Door) greet(ctx context.Context, conn transport.Conn) (*Entrant, [proof.NonceLen]byte, error) {
	nonce, err := proof.NewNonce()
	if err != nil {
		return nil, nonce, err
	}
	control, err := conn.Control(ctx)
	if err != nil {
		return nil, nonce, err
	}
	if _, err := control.Write(streamwire.AppendMessage(nil, &streamwire.Challenge{Nonce: nonce[:]})); err != nil {
		return nil, nonce, fmt.Errorf("challenge the viewer: %w", err)
	}
	m, err := streamwire.NewMessageReader(control).Next()
	if err != nil {
		return nil, nonce, fmt.Errorf("read the viewer's hello: %w", err)
	}
	refuse := func(code streamwire.Code, text string) (*Entrant, [proof.NonceLen]byte, error) {
		return nil, nonce, errors.Join(&RefusedError{Code: code, Text: text}, sayBye(conn, control, code, text))
	}
	hello, ok := m.(*streamwire.Hello)
	switch {
	case !ok:
		return refuse(streamwire.CodeProtocol, "The first message must be hello.")
	case hello.Version != streamwire.Version:
		return refuse(streamwire.CodeVersion, fmt.Sprintf("This page speaks version %d, the host %d. Reload the page.", hello.Version, streamwire.Version))
	case !slices.Contains(hello.Codecs, media.CodecH264):
		return refuse(streamwire.CodeProtocol, "This browser decodes no H.264. Use a current Chromium, Chrome or Edge.")
	}
	return &Entrant{conn: conn, control: control, hello: hello}, nonce, nil
}

// prove reads the viewer's proof and checks it. The nonce was made for this connection and is used up by it.
func (d *Door) prove(control io.Reader, nonce [proof.NonceLen]byte, token, thumbprint string) (result string, err error) {
	m, err := streamwire.NewMessageReader(control).Next()
	if err != nil {
		return proofNone, fmt.Errorf("read the viewer's proof: %w", err)
	}
	p, ok := m.(*streamwire.Proof)
	if !ok {
		return proofNone, fmt.Errorf("a viewer's proof follows its hello, not %T", m)
	}
	statement, err := proof.Statement(nonce, d.identity, token)
	if err != nil {
		return proofSignature, err
	}
	err = proof.Verify(thumbprint, statement, [proof.KeyLen]byte(p.Key), [proof.SignatureLen]byte(p.Signature))
	switch {
	case errors.Is(err, proof.ErrKey):
		return proofKey, err
	case err != nil:
		return proofSignature, err
	}
	return proofGood, nil
}
