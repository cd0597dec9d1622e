package masterapi

import (
	"cmp"
	"strings"
)

// Attributes of HostCapabilities that the master and its tools know. Unusable and refused are sentences, and there only when something is
// wrong.
const (
	// AttributeUnusable is why no session can run on the host: it gets none while it says so.
	AttributeUnusable = "unusable"
	// AttributeRefused is why the host does not follow the operator's newest order of plugins.
	AttributeRefused = "refused"
	// AttributeDesktop is "emptied" or "kept": what becomes of the desktop between two people.
	AttributeDesktop = "desktop"
	// MaxAttributeLen is the longest text of a host's capabilities, in bytes.
	MaxAttributeLen = 256
)

// AttributeText cuts a text to what an attribute may hold.
func AttributeText(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), MaxAttributeLen)], "")
}

// Why is what an operator should read about the host first: why it takes nobody, or why it is in its state.
func (x *Host) Why() string {
	return cmp.Or(x.GetCapabilities().GetAttributes()[AttributeUnusable], x.GetReason())
}
