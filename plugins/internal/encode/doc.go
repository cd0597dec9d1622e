// Package encode is what the encoder plugins share: it implements pluginapi.Encoder on top of Methods, which say how a chain of
// GStreamer elements turns raw pictures into access units.
//
// Pictures come from an intake (a frame socket or a PipeWire node), are references to somebody else's memory and are never copied
// here. One goroutine, the run, owns everything that changes: it keeps at most one picture waiting, replaces it by a newer one,
// puts one at a time into the pipeline, and repeats the last one when nothing new comes. Decisions are planner's, which is pure.
//
//	intake --picture--> run --push--> appsrc ! chain ! appsink --unit--> run --event--> Watch --> gRPC, or the socket for units
//
// Ordinary pictures and units do not pass through the run: it lends what it knows to gstpipe's Lane, which takes them from the intake's
// thread into the chain and from the chain to the socket, and takes it back (reclaim) before it does anything itself. What the lane
// leaves alone comes the way above, which alone knows keyframes, other sizes, the rate's timer, DMA-BUF and faults.
package encode
