package master

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/wavry/fleet/master/identity"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/masterapi/masterapiconnect"
	"github.com/wavry/fleet/master/masterclient"
)

// newServer serves the API, /readyz and /healthz.
func (m *Master) newServer() *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	return &http.Server{
		Handler: m.Handler(), Protocols: protocols, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: 4096, SendPingTimeout: 5 * time.Second, PingTimeout: 5 * time.Second},
		ErrorLog: nil,
	}
}

func serveHTTP(server *http.Server, listener net.Listener) error {
	if err := server.Serve(listener); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// stopServing lets running calls end for a while.
func (m *Master) stopServing(server *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownGrace)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		_ = server.Close() // what is left is cut
	}
}

// Handler is the whole HTTP side of the server.
func (m *Master) Handler() http.Handler {
	// No compression: messages are small, tokens do not compress, and servers and services are near each other.
	options := []connect.HandlerOption{connect.WithReadMaxBytes(masterapi.MaxRequestBytes), connect.WithCompression("gzip", nil, nil)}
	api := http.NewServeMux()
	api.Handle(masterapiconnect.NewSessionServiceHandler(&sessionAPI{m}, options...))
	api.Handle(masterapiconnect.NewLeaseServiceHandler(&leaseAPI{m}, options...))
	api.Handle(masterapiconnect.NewLinkServiceHandler(&linkAPI{m}, options...))
	api.Handle(masterapiconnect.NewFleetServiceHandler(&fleetAPI{m}, options...))
	api.Handle(masterapiconnect.NewKeyServiceHandler(&keyAPI{m}, options...))
	api.Handle(masterapiconnect.NewOperatorServiceHandler(&operatorAPI{m}, options...))
	mux := http.NewServeMux()
	mux.Handle("/wavry.master.v1.", m.gate(api))
	mux.Handle("/", m.gate(api))
	m.handleHealth(mux)
	return mux
}

// serveReady answers 200 or 503 with the reason, for Consul, Nomad and people.
func (m *Master) serveReady(w http.ResponseWriter, _ *http.Request) {
	answer := struct {
		Ready  bool   `json:"ready"`
		Reason string `json:"reason,omitempty"`
		Leader bool   `json:"leader"`
	}{Ready: true, Leader: m.leader.Load() != nil}
	code := http.StatusOK
	m.metrics.ready.Set(1)
	if err := m.Ready(); err != nil {
		answer.Ready, answer.Reason, code = false, err.Error(), http.StatusServiceUnavailable
		m.metrics.ready.Set(0)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(answer) // the asker may be gone
}

var errorWriter = connect.NewErrorWriter()

// gate finds out who calls, whether they may, and where the call is answered.
func (m *Master) gate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		leader, _ := m.node.Leader()
		if leader != "" {
			w.Header().Set(masterclient.LeaderHeader, leader)
		}
		id, err := m.auth.Authenticate(r)
		known := err == nil
		if err != nil && !errors.Is(err, identity.ErrNoCredentials) {
			m.refuse(w, r, masterapi.Refuse(masterapi.Reason_REASON_UNAUTHENTICATED, "%v", err))
			return
		}
		if refused := m.revocation(id); known && refused != nil {
			m.refuse(w, r, refused)
			return
		}
		if refused := permit(r.URL.Path, id, known); refused != nil {
			m.refuse(w, r, refused)
			return
		}
		if m.leader.Load() == nil && !answeredAnywhere(r.URL.Path) && !isStream(r.URL.Path) {
			m.elsewhere(w, r, leader, id, known)
			return
		}
		if known && isStream(r.URL.Path) {
			ctx, end := m.streams.begin(r.Context(), id)
			defer end()
			r = r.WithContext(ctx)
			if refused := m.revocation(id); refused != nil { // since it was looked at
				m.refuse(w, r, refused)
				return
			}
		}
		if known {
			r = r.WithContext(identity.NewContext(r.Context(), id))
		}
		next.ServeHTTP(w, r)
	})
}

func (m *Master) refuse(w http.ResponseWriter, r *http.Request, refused *masterapi.RefusedError) {
	m.metrics.calls.WithLabelValues(refused.Reason.Slug()).Inc()
	err := masterapiconnect.ToConnect(refused)
	if errorWriter.IsSupported(r) {
		_ = errorWriter.Write(w, r, err) // the caller may be gone
		return
	}
	http.Error(w, err.Error(), http.StatusBadRequest)
}

// elsewhere forwards a call to the leader. A call that was forwarded already finds no second leader.
func (m *Master) elsewhere(w http.ResponseWriter, r *http.Request, leader string, id identity.Identity, known bool) {
	if leader == "" || leader == m.address || r.Header.Get(identity.ForwardedHeader) != "" {
		m.refuse(w, r, masterapi.Refuse(masterapi.Reason_REASON_NOT_READY, "no leader is ready").After(retrySoon))
		return
	}
	behalf := identity.Anonymous
	if known {
		behalf = id.String()
	}
	m.forward.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), forwardKey{}, forwarded{leader, behalf})))
}

type forwardKey struct{}

type forwarded struct{ leader, behalf string }

// newForwarder is the way to the leader, as this server, on behalf of the caller.
func (m *Master) newForwarder() http.Handler {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	transport := &http.Transport{
		Protocols: protocols, DialContext: m.cfg.Dial, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: 3 * time.Second,
		TLSClientConfig: m.cfg.Identity.Client(identity.RoleMaster),
	}
	return &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(p *httputil.ProxyRequest) {
			to := p.In.Context().Value(forwardKey{}).(forwarded)
			p.SetURL(&url.URL{Scheme: "https", Host: to.leader})
			p.Out.Header.Set(identity.ForwardedHeader, to.behalf)
			p.Out.Header.Del("Authorization") // the caller's; this server shows its certificate
		},
		ModifyResponse: func(r *http.Response) error {
			r.Header.Del(masterclient.LeaderHeader) // this server has set it already
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			m.refuse(w, r, masterapi.Refuse(masterapi.Reason_REASON_NOT_READY, "forward to the leader: %v", err).After(retrySoon))
		},
	}
}

// isStream reports whether the procedure is a stream, which ends at the leader.
func isStream(procedure string) bool {
	switch procedure {
	case masterapiconnect.LinkServiceHostLinkProcedure, masterapiconnect.LinkServiceRelayLinkProcedure, masterapiconnect.SessionServiceWatchSessionsProcedure,
		masterapiconnect.OperatorServiceSaveSnapshotProcedure, masterapiconnect.OperatorServiceRestoreSnapshotProcedure:
		return true
	default:
		return false
	}
}

// answeredAnywhere reports whether any server answers from its own copy.
func answeredAnywhere(procedure string) bool {
	return procedure == masterapiconnect.OperatorServiceServerStatusProcedure || procedure == masterapiconnect.KeyServiceGetKeySetProcedure
}

// policies say which roles may call what, by procedure; services listed by prefix hold for the rest of their procedures.
var policies = map[string][]identity.Role{
	"SessionService/":              {identity.RoleGateway, identity.RoleOperator},
	"LeaseService/":                {identity.RoleGateway, identity.RoleOperator},
	"LeaseService/Renew":           {identity.RoleGateway, identity.RoleHost, identity.RoleOperator},
	"LeaseService/Release":         {identity.RoleGateway, identity.RoleHost, identity.RoleOperator},
	"LeaseService/Revoke":          {identity.RoleOperator},
	"LinkService/HostLink":         {identity.RoleHost},
	"LinkService/RelayLink":        {identity.RoleRelay},
	"FleetService/":                {identity.RoleOperator},
	"FleetService/ListRelays":      {identity.RoleGateway, identity.RoleOperator},
	"FleetService/GetRelay":        {identity.RoleGateway, identity.RoleOperator},
	"FleetService/ListHosts":       {identity.RoleGateway, identity.RoleOperator},
	"FleetService/GetHost":         {identity.RoleGateway, identity.RoleOperator},
	"FleetService/SetRelayState":   {identity.RoleGateway, identity.RoleOperator}, // for an admin, whom the gateway has checked and audits
	"FleetService/SetHostState":    {identity.RoleGateway, identity.RoleOperator},
	"FleetService/ListBans":        {identity.RoleGateway, identity.RoleOperator},
	"FleetService/PutBan":          {identity.RoleGateway, identity.RoleOperator},
	"FleetService/RemoveBan":       {identity.RoleGateway, identity.RoleOperator},
	"KeyService/":                  {identity.RoleOperator},
	"KeyService/ListKeys":          {identity.RoleGateway, identity.RoleOperator},
	"KeyService/Rotate":            {identity.RoleGateway, identity.RoleOperator},
	"KeyService/Revoke":            {identity.RoleGateway, identity.RoleOperator},
	"OperatorService/":             {identity.RoleOperator},
	"OperatorService/ListPeers":    {identity.RoleGateway, identity.RoleOperator, identity.RoleBackup}, // a backup looks for the leader there
	"OperatorService/Join":         {identity.RoleMaster},
	"OperatorService/SaveSnapshot": {identity.RoleOperator, identity.RoleBackup},
	"OperatorService/ServerStatus": identity.Roles(),
	"OperatorService/ListAudit":    {identity.RoleGateway, identity.RoleOperator},
}

// permit returns the refusal for a caller who may not call the procedure. The public key set needs no identity.
func permit(path string, id identity.Identity, known bool) *masterapi.RefusedError {
	if path == masterapiconnect.KeyServiceGetKeySetProcedure {
		return nil
	}
	if !known {
		return masterapi.Refuse(masterapi.Reason_REASON_UNAUTHENTICATED, "no credentials")
	}
	procedure := strings.TrimPrefix(path, "/wavry.master.v1.")
	roles, ok := policies[procedure]
	if !ok {
		service, _, _ := strings.Cut(procedure, "/")
		roles = policies[service+"/"]
	}
	for _, r := range roles {
		if r == id.Role {
			return nil
		}
	}
	return masterapi.Refuse(masterapi.Reason_REASON_PERMISSION_DENIED, "%s may not call %s", id, procedure)
}
