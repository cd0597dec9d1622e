// Package gateway is where people come in: it signs them in, decides which desktops they may use, asks the master for one and
// tells the browser how to reach it. It serves the web app and the signaling WebSocket. It never sees media: a running stream
// goes on while every gateway is down.
//
// A gateway keeps nothing that matters in memory. Accounts, logins and whose session is whose are in the store, sessions
// themselves at the master; any number of gateways on one PostgreSQL serve the same people.
//
// The contract with the browser is package signalapi, told in PROTOCOL.md; the contract with the master is package masterapi.
// Gateway only wires; the decisions are in policy.go (who may use what), admission.go (login to grant), signin.go and
// signaling.go.
package gateway
