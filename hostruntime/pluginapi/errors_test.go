package pluginapi

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestUnavailableCrosses proves that reason and remedy survive gRPC, wrapped or not, and that other errors keep their text.
func TestUnavailableCrosses(t *testing.T) {
	want := &UnavailableError{Reason: "no DRM render node", Remedy: "load the driver"}
	for _, err := range []error{want, fmt.Errorf("probe va: %w", want)} {
		var got *UnavailableError
		if !errors.As(FromStatus(toStatus(err)), &got) || *got != *want {
			t.Errorf("%v became %v", err, FromStatus(toStatus(err)))
		}
	}
	if err := FromStatus(toStatus(errors.New("it broke"))); status.Convert(err).Message() != "it broke" {
		t.Error(err)
	}
	garbled := toStatus(&UnavailableError{Reason: "driver says \xff\xfe"})
	if status.Code(garbled) != codes.FailedPrecondition {
		t.Error("text of a driver that is no UTF-8:", garbled)
	}
	if err := FromStatus(context.Canceled); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestUnavailableText proves that a person reads what to do.
func TestUnavailableText(t *testing.T) {
	if s := (&UnavailableError{Reason: "no GPU", Remedy: "add one"}).Error(); s != "no GPU; add one" {
		t.Error(s)
	}
	if s := (&UnavailableError{Reason: "no GPU"}).Error(); s != "no GPU" {
		t.Error(s)
	}
}

// TestWatched proves that the host runtime leaving is no error of a plugin, and that everything else is.
func TestWatched(t *testing.T) {
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if err := watched(gone, fmt.Errorf("emit: %w", context.Canceled)); err != nil {
		t.Error(err)
	}
	if err := watched(context.Background(), nil); err != nil {
		t.Error(err)
	}
	if err := watched(gone, errors.New("encoder died")); err == nil {
		t.Error("a failure was swallowed")
	}
}
