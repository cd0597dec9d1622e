package masterclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"connectrpc.com/connect"

	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/masterapi/masterapiconnect"
)

// Config says where the masters are and who is calling.
type Config struct {
	// Addresses are host:port of any servers.
	Addresses []string
	// Resolve returns further addresses, for instance from Consul; it is asked when no known address works. May be nil.
	Resolve func(ctx context.Context) ([]string, error)
	// TLS is the client configuration (identity.Source.Client(identity.RoleMaster)), by which a server proves that it is a master. Required but with Dial.
	TLS *tls.Config
	// Token returns the bearer token of each request; it is called per request, so that a renewed token needs no restart. May be nil.
	Token func() (string, error)
	// Dial replaces the TCP dialer, for servers in the same process. May be nil.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// RetryFor is how long a unary call keeps looking for a leader; 0: 6 s.
	RetryFor time.Duration
	// Logger may be nil.
	Logger *slog.Logger
}

// Validate collects every problem.
func (c Config) Validate() error {
	var problems []error
	if len(c.Addresses) == 0 && c.Resolve == nil {
		problems = append(problems, errors.New("addresses: at least one master address is needed"))
	}
	if c.TLS == nil && c.Dial == nil {
		problems = append(problems, errors.New("ca_file: a master is known by its certificate, also on loopback; name the authority's certificate"))
	}
	for _, a := range c.Addresses {
		if _, _, err := net.SplitHostPort(a); err != nil {
			problems = append(problems, fmt.Errorf("addresses: %q must be host:port", a))
		}
	}
	return errors.Join(problems...)
}

// Client talks to the leader. It is safe for concurrent use.
type Client struct {
	cfg       Config
	log       *slog.Logger
	targets   *targets
	transport *http.Transport

	sessions masterapiconnect.SessionServiceClient
	leases   masterapiconnect.LeaseServiceClient
	fleet    masterapiconnect.FleetServiceClient
	keys     masterapiconnect.KeyServiceClient
	operator masterapiconnect.OperatorServiceClient
	links    masterapiconnect.LinkServiceClient
}

// New checks the configuration; connections are made on demand.
func New(cfg Config) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("master client: %w", err)
	}
	if cfg.RetryFor == 0 {
		cfg.RetryFor = defaultRetryFor
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Client{cfg: cfg, log: cfg.Logger.With("component", "masterclient"), targets: newTargets(cfg.Addresses)}
	c.transport = newTransport(cfg)
	httpClient := &http.Client{Transport: &router{client: c, inner: c.transport}}
	const base = "http://master" // the router puts scheme and address of the present target in
	options := []connect.ClientOption{
		connect.WithInterceptors(&retrier{client: c}),
		connect.WithReadMaxBytes(masterapi.MaxRequestBytes),
		connect.WithAcceptCompression("gzip", nil, nil), // a server compresses only for those who ask, and it costs more than it saves
	}
	c.sessions = masterapiconnect.NewSessionServiceClient(httpClient, base, options...)
	c.leases = masterapiconnect.NewLeaseServiceClient(httpClient, base, options...)
	c.fleet = masterapiconnect.NewFleetServiceClient(httpClient, base, options...)
	c.keys = masterapiconnect.NewKeyServiceClient(httpClient, base, options...)
	c.operator = masterapiconnect.NewOperatorServiceClient(httpClient, base, options...)
	c.links = masterapiconnect.NewLinkServiceClient(httpClient, base, options...)
	return c, nil
}

// Sessions is for gateways. Errors of every service are *masterapi.RefusedError where the master refused.
func (c *Client) Sessions() masterapiconnect.SessionServiceClient { return c.sessions }

// Leases renews, releases and looks at leases.
func (c *Client) Leases() masterapiconnect.LeaseServiceClient { return c.leases }

// Fleet looks at and steers relays, hosts and bans.
func (c *Client) Fleet() masterapiconnect.FleetServiceClient { return c.fleet }

// Keys looks at and rotates signing keys.
func (c *Client) Keys() masterapiconnect.KeyServiceClient { return c.keys }

// Operator is for the cluster itself.
func (c *Client) Operator() masterapiconnect.OperatorServiceClient { return c.operator }

// Close drops idle connections; running calls are not interrupted.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

func newTransport(cfg Config) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(cfg.TLS == nil)
	t := &http.Transport{
		Protocols: protocols, TLSClientConfig: cfg.TLS, DialContext: cfg.Dial,
		TLSHandshakeTimeout: dialTimeout, IdleConnTimeout: idleTimeout,
		HTTP2: &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
	}
	if cfg.Dial == nil {
		t.DialContext = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	return t
}

// router sends each request to the target of the moment and learns the leader from each response.
type router struct {
	client *Client
	inner  http.RoundTripper
}

// LeaderHeader is set by every server on every response: the address of the leader it knows.
const LeaderHeader = "Wavry-Leader"

type targetKey struct{}

func (r *router) RoundTrip(request *http.Request) (*http.Response, error) {
	target, _ := request.Context().Value(targetKey{}).(string)
	if target == "" {
		return nil, ErrNoAddress
	}
	request = request.Clone(request.Context())
	request.URL.Host = target
	request.Host = target
	if r.client.cfg.TLS != nil {
		request.URL.Scheme = "https"
	}
	if r.client.cfg.Token != nil {
		token, err := r.client.cfg.Token()
		if err != nil {
			return nil, fmt.Errorf("read the token for the master: %w", err)
		}
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := r.inner.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	if leader := response.Header.Get(LeaderHeader); leader != "" {
		r.client.targets.setLeader(leader)
	}
	return response, nil
}

// SaveSnapshot copies a snapshot archive of the cluster into w.
func (c *Client) SaveSnapshot(ctx context.Context, w io.Writer) error {
	ctx, err := c.leaderTarget(ctx)
	if err != nil {
		return err
	}
	stream, err := c.operator.SaveSnapshot(ctx, &masterapi.SaveSnapshotRequest{})
	if err != nil {
		return masterapiconnect.FromError(err)
	}
	defer stream.Close()
	for stream.Receive() {
		if _, err := w.Write(stream.Msg().GetData()); err != nil {
			return fmt.Errorf("write snapshot: %w", err)
		}
	}
	return masterapiconnect.FromError(stream.Err())
}

// RestoreSnapshot replaces the cluster's state by the archive in r and returns the log index of the restored state.
func (c *Client) RestoreSnapshot(ctx context.Context, r io.Reader) (uint64, error) {
	ctx, err := c.leaderTarget(ctx)
	if err != nil {
		return 0, err
	}
	stream, err := c.operator.RestoreSnapshot(ctx)
	if err != nil {
		return 0, masterapiconnect.FromError(err)
	}
	buffer := make([]byte, masterapi.MaxSnapshotChunk)
	for {
		n, readErr := io.ReadFull(r, buffer)
		if n > 0 {
			if err := stream.Send(&masterapi.SnapshotChunk{Data: buffer[:n]}); err != nil && !errors.Is(err, io.EOF) {
				return 0, masterapiconnect.FromError(err)
			} else if err != nil {
				break // the server has answered already: CloseAndReceive says what
			}
		}
		if errors.Is(readErr, io.EOF) || errors.Is(readErr, io.ErrUnexpectedEOF) {
			break
		}
		if readErr != nil {
			return 0, fmt.Errorf("read snapshot: %w", readErr)
		}
	}
	response, err := stream.CloseAndReceive()
	if err != nil {
		return 0, masterapiconnect.FromError(err)
	}
	return response.GetIndex(), nil
}
