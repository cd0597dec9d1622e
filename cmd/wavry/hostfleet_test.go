package main

import (
	"testing"
	"time"
)

// A drain's limit is told as people say it.
func TestInWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		time.Second: "1 second", 5 * time.Second: "5 seconds", 90 * time.Second: "90 seconds", 5 * time.Minute: "5 minutes",
	} {
		if got := inWords(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}
