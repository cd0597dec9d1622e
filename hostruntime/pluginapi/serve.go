package pluginapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/wavry/fleet/hostruntime/pluginapi/inbox"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/hostruntime/pluginapi/unitsocket"
)

// ProtocolVersion is the version of plugin.proto. Both sides must have the same; go-plugin refuses others by number.
const ProtocolVersion = 1

// Handshake tells a plugin started by hand apart from one started by the host runtime. It is no secret.
var Handshake = plugin.HandshakeConfig{
	ProtocolVersion:  ProtocolVersion,
	MagicCookieKey:   "WAVRY_PLUGIN",
	MagicCookieValue: "7f0d2f6c-host-runtime",
}

// Names under which a plugin process is dispensed.
const (
	CaptureName = "capture"
	EncodeName  = "encode"
)

// maxMessage bounds one gRPC message: a keyframe of 4K at very high quality stays below it.
const maxMessage = 16 << 20

// writeBuffer holds a typical access unit, so that it leaves in one system call. A larger one passes through it in pieces.
const writeBuffer = 256 << 10

// stopTime bounds Stop after SIGTERM; the host runtime kills about as soon.
const stopTime = 500 * time.Millisecond

// ServeCapturer runs a capture plugin's main until the host runtime is done with it.
func ServeCapturer(c Capturer) { serve(CaptureName, &CapturePlugin{Impl: c}, c.Stop) }

// ServeEncoder runs an encoder plugin's main until the host runtime is done with it.
func ServeEncoder(e Encoder) { serve(EncodeName, &EncodePlugin{Impl: e}, e.Stop) }

func serve(name string, p plugin.Plugin, stop func(context.Context) error) {
	go stopOnTerm(stop)
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: Handshake,
		Plugins:         plugin.PluginSet{name: p},
		GRPCServer:      newServer,
		// go-plugin tells every step at debug; the last lines of stderr should be the plugin's own.
		Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: os.Stderr, JSONFormat: true}),
	})
}

// stopOnTerm lets a plugin leave the compositor and the encoder in order when the host runtime ends it. A Stop that hangs does
// not matter: SIGKILL follows.
func stopOnTerm(stop func(context.Context) error) {
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	<-term
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	if err := stop(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "stop on SIGTERM:", err)
	}
	os.Exit(0)
}

// newServer is tuned for access units: one message fits the write buffer, and flow control never waits for a keyframe.
func newServer(opts []grpc.ServerOption) *grpc.Server {
	return grpc.NewServer(append(opts,
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage), grpc.WriteBufferSize(writeBuffer),
	)...)
}

// serveHanded lets s also serve the connections that the host runtime hands over, which are the only ones it makes: it opens no path that
// a plugin names. It is called when everything is registered; go-plugin's own listener stays unused.
func serveHanded(s *grpc.Server) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() { // ends with the server or the process
		_ = s.Serve(&handedListener{ctx: ctx, cancel: cancel}) // its end is the server's, or the host runtime's
	}()
}

// handedListener accepts what comes by the inbox.
type handedListener struct {
	ctx    context.Context
	cancel context.CancelFunc
}

func (l *handedListener) Accept() (net.Conn, error) { return inbox.Receive(l.ctx, inbox.Control) }

func (l *handedListener) Close() error { l.cancel(); return nil }

func (l *handedListener) Addr() net.Addr { return &net.UnixAddr{Net: "unix", Name: inbox.Handed} }

// CapturePlugin is the go-plugin shape of a capture plugin; Impl is set on the plugin's side only.
type CapturePlugin struct {
	plugin.NetRPCUnsupportedPlugin
	Impl Capturer
}

// GRPCServer registers Impl.
func (p *CapturePlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	pluginpb.RegisterCaptureServer(s, &captureServer{impl: p.Impl})
	serveHanded(s)
	return nil
}

// GRPCClient returns the host runtime's stub.
func (p *CapturePlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, c *grpc.ClientConn) (any, error) {
	return pluginpb.NewCaptureClient(c), nil
}

// EncodePlugin is the go-plugin shape of an encoder plugin; Impl is set on the plugin's side only.
type EncodePlugin struct {
	plugin.NetRPCUnsupportedPlugin
	Impl Encoder
}

// GRPCServer registers Impl.
func (p *EncodePlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	pluginpb.RegisterEncoderServer(s, &encodeServer{impl: p.Impl})
	serveHanded(s)
	return nil
}

// GRPCClient returns the host runtime's stub.
func (p *EncodePlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, c *grpc.ClientConn) (any, error) {
	return pluginpb.NewEncoderClient(c), nil
}

type captureServer struct {
	pluginpb.UnimplementedCaptureServer
	impl Capturer
}

func (s *captureServer) Probe(ctx context.Context, r *pluginpb.ProbeRequest) (*pluginpb.ProbeReport, error) {
	return reply(s.impl.Probe(ctx, r))
}

func (s *captureServer) Start(ctx context.Context, r *pluginpb.StartCaptureRequest) (*pluginpb.CaptureStarted, error) {
	return reply(s.impl.Start(ctx, r))
}

func (s *captureServer) Watch(_ *pluginpb.WatchRequest, stream grpc.ServerStreamingServer[pluginpb.CaptureEvent]) error {
	return watched(stream.Context(), s.impl.Watch(stream.Context(), stream.Send))
}

func (s *captureServer) Inject(ctx context.Context, r *pluginpb.InputBatch) (*pluginpb.Injected, error) {
	return reply(s.impl.Inject(ctx, r))
}

func (s *captureServer) Resize(ctx context.Context, r *pluginpb.Size) (*pluginpb.Size, error) {
	return reply(s.impl.Resize(ctx, r))
}

func (s *captureServer) SetFramerate(ctx context.Context, r *pluginpb.Framerate) (*pluginpb.Empty, error) {
	return reply(&pluginpb.Empty{}, s.impl.SetFramerate(ctx, r.Fps))
}

func (s *captureServer) Stop(ctx context.Context, _ *pluginpb.Empty) (*pluginpb.Empty, error) {
	return reply(&pluginpb.Empty{}, s.impl.Stop(ctx))
}

type encodeServer struct {
	pluginpb.UnimplementedEncoderServer
	impl Encoder
}

func (s *encodeServer) Probe(ctx context.Context, r *pluginpb.ProbeRequest) (*pluginpb.ProbeReport, error) {
	return reply(s.impl.Probe(ctx, r))
}

func (s *encodeServer) Start(ctx context.Context, r *pluginpb.StartEncodeRequest) (*pluginpb.EncodeStarted, error) {
	return reply(s.impl.Start(ctx, r))
}

func (s *encodeServer) Watch(r *pluginpb.WatchRequest, stream grpc.ServerStreamingServer[pluginpb.EncodeEvent]) error {
	ctx := stream.Context()
	if !r.UnitsHanded {
		return watched(ctx, s.impl.Watch(ctx, stream.Send))
	}
	units, err := unitsocket.Receive(ctx)
	if err != nil {
		return toStatus(err)
	}
	defer units.Close() // before the stream ends, so that the host runtime knows when it has them all
	stop := context.AfterFunc(ctx, func() { _ = units.Close() })
	defer stop()
	return watched(ctx, s.impl.Watch(ctx, func(e *pluginpb.EncodeEvent) error {
		if u := e.GetUnit(); u != nil {
			return units.Write(u)
		}
		return stream.Send(e)
	}))
}

func (s *encodeServer) SetBitrate(ctx context.Context, r *pluginpb.Bitrate) (*pluginpb.Empty, error) {
	return reply(&pluginpb.Empty{}, s.impl.SetBitrate(ctx, r.BitsPerSecond))
}

func (s *encodeServer) SetFramerate(ctx context.Context, r *pluginpb.Framerate) (*pluginpb.Empty, error) {
	return reply(&pluginpb.Empty{}, s.impl.SetFramerate(ctx, r.Fps))
}

func (s *encodeServer) RequestKeyframe(ctx context.Context, _ *pluginpb.Empty) (*pluginpb.Empty, error) {
	return reply(&pluginpb.Empty{}, s.impl.RequestKeyframe(ctx))
}

func (s *encodeServer) Stop(ctx context.Context, _ *pluginpb.Empty) (*pluginpb.Empty, error) {
	return reply(&pluginpb.Empty{}, s.impl.Stop(ctx))
}

func reply[T any](msg T, err error) (T, error) {
	if err != nil {
		var none T
		return none, toStatus(err)
	}
	return msg, nil
}

// watched ends a stream: the host runtime leaving is no error.
func watched(ctx context.Context, err error) error {
	if err == nil || (ctx.Err() != nil && errors.Is(err, ctx.Err())) {
		return nil
	}
	return toStatus(err)
}
