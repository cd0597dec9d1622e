// Package pluginhost starts plugin processes and speaks to them. It is the only importer of go-plugin's client side.
//
// Launch starts one binary in a box (package pluginbox, DESIGN.md), waits for go-plugin's handshake (gRPC, mutual TLS with certificates of
// one use, over a connection that is handed to the plugin by descriptor) and returns a Process whose Capture and Encoder are the interfaces
// that the plugin itself implements. A plugin dies with its host runtime, however that ends: the kernel kills it when the thread that
// started it goes (PR_SET_PDEATHSIG), and it can have made no other process.
//
// It decides nothing: which plugin to run and when to give up is package pipeline's and package fingerprint's.
package pluginhost
