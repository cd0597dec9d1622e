//go:build !linux

package relay

// sockaddr is empty where legs are only sent to through package net.
type sockaddr struct{}

func makeSockaddr(legKey) sockaddr { return sockaddr{} }
