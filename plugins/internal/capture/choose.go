package capture

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
)

// inOrder returns the methods that wish names, in its order; an empty wish is all, in the given order.
func inOrder(methods []Method, wish []string) ([]Method, error) {
	if len(wish) == 0 {
		return methods, nil
	}
	var chosen []Method
	for _, name := range wish {
		i := slices.IndexFunc(methods, func(m Method) bool { return m.Name() == name })
		if i < 0 {
			return nil, &pluginapi.UnavailableError{
				Reason: fmt.Sprintf("capture method %q is unknown", name),
				Remedy: "use one of " + strings.Join(names(methods), ", "),
			}
		}
		chosen = append(chosen, methods[i])
	}
	return chosen, nil
}

// openFirst opens the first method that works and says why it and why not the ones before and after it.
func openFirst(ctx context.Context, methods []Method, r *pluginpb.StartCaptureRequest) (string, Source, string, error) {
	var refused []string
	var first error
	for i, m := range methods {
		s, err := open(ctx, m, r)
		if err == nil {
			return m.Name(), s, reason(s.Info().Reason, refused, names(methods[i+1:])), nil
		}
		if ctx.Err() != nil {
			return "", nil, "", fmt.Errorf("open %s: %w", m.Name(), err)
		}
		if first == nil {
			first = err
		}
		refused = append(refused, fmt.Sprintf("%s: %v", m.Name(), err))
	}
	return "", nil, "", noneWorks(refused, first)
}

func open(ctx context.Context, m Method, r *pluginpb.StartCaptureRequest) (Source, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	return m.Open(ctx, r)
}

func reason(why string, refused, untried []string) string {
	parts := append([]string{why}, refused...)
	if len(untried) > 0 {
		parts = append(parts, "not tried: "+strings.Join(untried, ", "))
	}
	return strings.Join(parts, "; ")
}

// noneWorks keeps the remedy of the most preferred method.
func noneWorks(refused []string, first error) error {
	u := &pluginapi.UnavailableError{Reason: "no capture method works: " + strings.Join(refused, "; ")}
	if len(refused) == 0 {
		u.Reason = "this plugin offers no capture method here"
	}
	var why *pluginapi.UnavailableError
	if errors.As(first, &why) {
		u.Remedy = why.Remedy
	}
	return u
}

func names(methods []Method) []string {
	var all []string
	for _, m := range methods {
		all = append(all, m.Name())
	}
	return all
}
