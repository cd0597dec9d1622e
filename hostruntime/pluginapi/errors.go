package pluginapi

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
)

// UnavailableError says that something cannot work on this node, precisely why, and what to do. It crosses gRPC intact.
type UnavailableError struct {
	Reason string // "no DRM render node under the device directory"
	Remedy string // "load the GPU's driver, or use encode-software"
}

func (e *UnavailableError) Error() string {
	if e.Remedy == "" {
		return e.Reason
	}
	return fmt.Sprintf("%s; %s", e.Reason, e.Remedy)
}

// toStatus is how a plugin's error leaves the plugin: UnavailableError keeps its parts, all else is its text.
func toStatus(err error) error {
	var u *UnavailableError
	if !errors.As(err, &u) {
		return status.Error(codes.Unknown, err.Error())
	}
	s, detailErr := status.New(codes.FailedPrecondition, err.Error()).
		WithDetails(&pluginpb.CaptureFault{Reason: u.Reason, Remedy: u.Remedy})
	if detailErr != nil { // only possible for a message that cannot be marshalled: invalid UTF-8 from a driver
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	return s.Err()
}

// FromStatus turns an error of a plugin call back into what the plugin returned.
func FromStatus(err error) error {
	for _, d := range status.Convert(err).Details() {
		if f, ok := d.(*pluginpb.CaptureFault); ok {
			return &UnavailableError{Reason: f.Reason, Remedy: f.Remedy}
		}
	}
	return err
}
