package gstpipe

import (
	"errors"
	"fmt"
)

// ErrClosed is returned by calls on a pipeline after Close or after the stream's end.
var ErrClosed = errors.New("pipeline is closed")

// ErrTimeout is returned when nothing came out in the time given; the pipeline still runs.
var ErrTimeout = errors.New("nothing came out of the pipeline in time")

// ErrLayout is returned for a picture whose caps or memory cannot be understood.
var ErrLayout = errors.New("picture without a readable layout")

// ErrIncomplete is returned for a buffer without a whole picture, as compositors send when only the cursor moved; the next may be one.
var ErrIncomplete = errors.New("buffer without a whole picture")

// ElementMissingError says that a factory is not registered.
type ElementMissingError struct{ Factory string }

func (e *ElementMissingError) Error() string {
	return fmt.Sprintf("GStreamer element %s is missing", e.Factory)
}

// PipelineError is the first error an element posted.
type PipelineError struct {
	Element string // the element's name
	Text    string // for people
	Debug   string // file, line and more
}

func (e *PipelineError) Error() string {
	if e.Debug == "" {
		return fmt.Sprintf("%s: %s", e.Element, e.Text)
	}
	return fmt.Sprintf("%s: %s (%s)", e.Element, e.Text, e.Debug)
}
