// Package viewertest tests the web app in a real Chromium against a host whose every step the test decides: real WebTransport, real
// H.264, real signatures, and a picture that changes colour on input. It proves the viewer, not the host: the lanes in
// test/integration prove both together. Everything here carries the tag integration.
package viewertest
