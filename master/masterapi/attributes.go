package masterapi

import "cmp"

// Attributes of HostCapabilities that the master and its tools know. Both are sentences, and there only when something is wrong.
const (
	// AttributeUnusable is why no session can run on the host: it gets none while it says so.
	AttributeUnusable = "unusable"
	// AttributeRefused is why the host does not follow the operator's newest order of plugins.
	AttributeRefused = "refused"
	// MaxAttributeLen is the longest text of a host's capabilities, in bytes.
	MaxAttributeLen = 256
)

// Why is what an operator should read about the host first: why it takes nobody, or why it is in its state.
func (x *Host) Why() string {
	return cmp.Or(x.GetCapabilities().GetAttributes()[AttributeUnusable], x.GetReason())
}
