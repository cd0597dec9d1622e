// Package encode is what the encoder plugins share: it implements pluginapi.Encoder on top of Methods, which say how a chain of
// GStreamer elements turns raw pictures into access units.
//
// Pictures come from an intake (a frame socket or a PipeWire node), are references to somebody else's memory and are never copied
// here. One goroutine, the run, owns everything that changes: it keeps at most one picture waiting, replaces it by a newer one,
// puts one at a time into the pipeline, and repeats the last one when nothing new comes. Decisions are planner's, which is pure.
//
//	intake --picture--> run --push--> appsrc ! chain ! appsink --unit--> run --event--> Watch --> gRPC, or the socket for units
package encode
