// Package fingerprint finds out what this node can do: every plugin is run and really captures or encodes some pictures, the
// session around it (compositor, bus, portal, PipeWire, GPU, ...) is looked at, and the operator's ordered preference picks.
//
// The Result is what `wavry host doctor` prints, what the host publishes, and where package pipeline's candidates come from. Each
// line has a verdict and, unless all is well, a remedy: a sentence that a person can act on.
package fingerprint
