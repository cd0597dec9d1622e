package pipeline

import (
	"errors"
	"fmt"
	"strings"
)

// ErrRecovering is returned by Inject while no capture runs; the viewer was told.
var ErrRecovering = errors.New("the capture is being restarted")

// cause is why a run was ended: a closed set, used as a metric's label.
type cause string

const (
	causeCrash     cause = "crash"      // the process is gone
	causeHang      cause = "hang"       // no sign of life, or a call without an answer
	causeRefused   cause = "refused"    // it said that it cannot work here, or could not be started
	causeFault     cause = "fault"      // it reported the end of its run
	causeBlack     cause = "black"      // only black pictures while there is input
	causeFrozen    cause = "frozen"     // the same picture while there is input
	causeNoPicture cause = "no_picture" // alive, but nothing comes out
)

// errSilent is the reason under causeHang.
var errSilent = errors.New("gives no sign of life")

// errWatchEnded is the reason when a plugin ends its stream without one.
var errWatchEnded = errors.New("ended its run without saying why")

// CandidateError is one plugin's last failure.
type CandidateError struct {
	Name  string
	Cause string
	Err   error
}

func (e *CandidateError) Error() string { return fmt.Sprintf("%s (%s): %v", e.Name, e.Cause, e.Err) }

func (e *CandidateError) Unwrap() error { return e.Err }

// ExhaustedError says that every candidate of a role failed; Run returns it.
type ExhaustedError struct {
	Role       string // capture or encoder
	Candidates []*CandidateError
}

func (e *ExhaustedError) Error() string {
	texts := make([]string, len(e.Candidates))
	for i, c := range e.Candidates {
		texts[i] = c.Error()
	}
	return fmt.Sprintf("no %s plugin works: %s; run `wavry host doctor` on the host", e.Role, strings.Join(texts, "; "))
}

func (e *ExhaustedError) Unwrap() []error {
	errs := make([]error, len(e.Candidates))
	for i, c := range e.Candidates {
		errs[i] = c
	}
	return errs
}
