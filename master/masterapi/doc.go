// Package masterapi is the contract of the master: its API (protobuf with Connect), the closed set of reasons with a sentence each, the
// errors that carry them, and the bytes a host signs. It imports nothing of ours and opens nothing.
//
// Gateways call SessionService, hosts and relays hold a link of LinkService, operators use FleetService, KeyService, LeaseService and
// OperatorService. Package masterclient finds the leader and keeps links alive.
package masterapi

//go:generate protoc -I . --go_out=. --go_opt=paths=source_relative --connect-go_out=. --connect-go_opt=paths=source_relative,simple master.proto
