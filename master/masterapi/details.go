package masterapi

import (
	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
)

// withDetail builds the wire error. Our own messages always marshal; a failure would only lose the detail, never the code.
func withDetail(code connect.Code, err error, message proto.Message) *connect.Error {
	wire := connect.NewError(code, err)
	if detail, detailErr := connect.NewErrorDetail(message); detailErr == nil {
		wire.AddDetail(detail)
	}
	return wire
}
