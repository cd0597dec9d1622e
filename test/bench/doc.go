// Package bench measures the picture path from the compositor to the browser, with the real processes, and writes a report: stages,
// input-to-present, first picture, cost against one process with the same elements, and how much raw picture passes through whom. Its tests carry
// the tag latency and are run by scripts/bench; a number never fails them, only something that does not work does.
package bench
