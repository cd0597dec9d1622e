// Package pipeline runs one capture plugin and one encoder plugin for a session and keeps pictures coming while plugins crash, hang
// or deliver nonsense. It is a session.Source.
//
// The decisions are in supervise.go: a pure state machine told what happens and when, which answers with what to start and stop.
// Everything else carries out: run.go holds one process from launch to kill, outlet.go lets through only units a viewer can decode,
// control.go coalesces settings. Which plugins are worth trying, and in what order, is package fingerprint's.
package pipeline
