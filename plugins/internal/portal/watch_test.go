package portal

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A service that falls silent, PipeWire or a portal alike, is reported within two seconds with what to do, once; an answer clears it;
// silence that lasts ends the capture.
func TestSilenceIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const silentFrom, silentFor = 10 * time.Second, 5 * time.Second
		start := time.Now()
		var reports []time.Duration
		w := &Watch{Wedged: func(reason, remedy string) {
			if !strings.Contains(reason, "PipeWire") || remedy == "" {
				t.Errorf("reported %q, %q", reason, remedy)
			}
			reports = append(reports, time.Since(start))
		}}
		ping := func(ctx context.Context) error {
			if at := time.Since(start); at < silentFrom || at >= silentFrom+silentFor && at < 60*time.Second {
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		}
		err := w.answers(t.Context(), "PipeWire", ping)
		if err == nil || !strings.Contains(err.Error(), "has not answered") {
			t.Errorf("silence that lasts ended with %v", err)
		}
		if len(reports) != 2 || reports[0] > silentFrom+2*time.Second || reports[1] > 62*time.Second {
			t.Errorf("reported at %v", reports)
		}
		if took := time.Since(start); took > 60*time.Second+wedgedFor+3*time.Second {
			t.Errorf("given up after %v", took)
		}
	})
}

// The end of a capture is no silence.
func TestSilenceEndsWithTheCapture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		w := &Watch{Wedged: func(reason, _ string) { t.Error(reason) }}
		if err := w.answers(ctx, "PipeWire", func(context.Context) error { return nil }); err != nil {
			t.Error(err)
		}
	})
}
