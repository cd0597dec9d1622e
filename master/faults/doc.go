// Package faults holds the tests that break real servers: processes killed with SIGKILL, full disks, an emptied Consul. They run with
//
//	go test -tags integration ./master/faults
//
// and need nothing but this repository; the Consul test needs a consul binary in PATH or named by WAVRY_CONSUL_BIN, and the full disk needs root.
package faults
