package fakeplugin

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/go-plugin"

	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
)

// Main is a plugin's main. A test binary calls it from TestMain when EnvName is set, and so needs no second binary.
func Main() {
	b, err := Parse(os.Getenv(EnvName) + roleOfName(filepath.Base(os.Args[0])))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	handshake(b)
	serve(b)
}

func handshake(b Behaviour) {
	switch b.Handshake {
	case "hang":
		select {}
	case "garbage":
		fmt.Println("hello, I am not a plugin")
		select {}
	case "exit":
		fmt.Fprintln(os.Stderr, "fake: exit before the handshake")
		os.Exit(7)
	}
}

func serve(b Behaviour) {
	if b.Version != 0 {
		serveVersion(b)
		return
	}
	if b.Role == "capture" {
		pluginapi.ServeCapturer(NewCapturer(b))
	} else {
		pluginapi.ServeEncoder(NewEncoder(b))
	}
}

// serveVersion is a plugin of another release.
func serveVersion(b Behaviour) {
	handshake := pluginapi.Handshake
	handshake.ProtocolVersion = uint(b.Version)
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: handshake,
		Plugins:         plugin.PluginSet{pluginapi.CaptureName: &pluginapi.CapturePlugin{Impl: NewCapturer(b)}},
		GRPCServer:      plugin.DefaultGRPCServer,
	})
}

// common is what both roles do wrong in the same way.
type common struct {
	b      Behaviour
	frames counter
}

// refuse is the error of a node on which nothing works.
func (c *common) refuse() error {
	if !c.b.Refuse {
		return nil
	}
	return &pluginapi.UnavailableError{Reason: "the fake was told to refuse", Remedy: "remove refuse from " + EnvName}
}

// roleOfName lets a link named wavry-capture-... or wavry-encode-... be found as a plugin and know what it is.
func roleOfName(name string) string {
	for _, role := range []string{"capture", "encode"} {
		if strings.HasPrefix(name, "wavry-"+role+"-") {
			return ",role=" + role
		}
	}
	return ""
}

// checkMethods accepts the fake's only method.
func checkMethods(wanted []string) error {
	if len(wanted) > 0 && !slices.Contains(wanted, "fake") {
		return &pluginapi.UnavailableError{Reason: fmt.Sprintf("none of the methods %q exists", wanted), Remedy: `ask for "fake"`}
	}
	return nil
}

// probe marks an item for a method that does not exist.
func probe(r *pluginpb.ProbeRequest, item *pluginpb.ProbeItem) *pluginpb.ProbeReport {
	if r.Method != "" && r.Method != "fake" {
		item = &pluginpb.ProbeItem{Method: r.Method, Reason: "no such method", Remedy: `ask for "fake"`}
	}
	return &pluginpb.ProbeReport{Items: []*pluginpb.ProbeItem{item}}
}

// frame counts one frame and misbehaves after the configured number. It reports whether to go on.
func (c *common) frame() bool {
	n := c.frames.add()
	switch {
	case c.b.DieAfter > 0 && n > c.b.DieAfter:
		os.Exit(3)
	case c.b.PanicAfter > 0 && n > c.b.PanicAfter:
		go panic("fake: told to panic")
		select {}
	}
	return !c.stalled() && !c.failed()
}

func (c *common) stalled() bool { return c.b.StallAfter > 0 && c.frames.get() > c.b.StallAfter }
func (c *common) failed() bool  { return c.b.FailAfter > 0 && c.frames.get() > c.b.FailAfter }

// call is done first in every call: a stalled plugin does not answer.
func (c *common) call(ctx context.Context) error {
	if c.stalled() {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

// stopping hangs a plugin that will not leave.
func (c *common) stopping() {
	if c.b.IgnoreTerm {
		select {}
	}
}

func (c *common) flood() {
	for i := range c.b.StderrFlood {
		fmt.Fprintf(os.Stderr, "fake: line %d of a flood\n", i)
	}
}
