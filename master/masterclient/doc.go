// Package masterclient is how gateways, hosts, relays and tools talk to the master: it finds the leader, retries what may be retried, keeps links
// and watches alive, and caches the key set for offline verification.
//
// A Client is cheap and holds one HTTP/2 connection per server. Nothing is opened by New.
package masterclient
