package desktop

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Kind names a compositor.
type Kind string

// The desktops that can be started.
const (
	Sway  Kind = "sway"
	GNOME Kind = "gnome"
	KDE   Kind = "kde"
)

// Kinds are all of them, in the order in which help texts list them.
var Kinds = []Kind{GNOME, KDE, Sway}

func (k Kind) validate() error {
	if _, ok := recipes[k]; !ok {
		return fmt.Errorf("desktop kind %q: must be gnome, kde or sway", string(k))
	}
	return nil
}

// Size of an output in pixels.
type Size struct{ Width, Height int }

// DefaultSize is what a browser window shows without scaling on most screens.
var DefaultSize = Size{1280, 720}

func (s Size) String() string { return fmt.Sprintf("%dx%d", s.Width, s.Height) }

// ParseSize reads "1280x720".
func ParseSize(text string) (Size, error) {
	w, h, ok := strings.Cut(text, "x")
	width, errW := strconv.Atoi(w)
	height, errH := strconv.Atoi(h)
	if !ok || errW != nil || errH != nil {
		return Size{}, fmt.Errorf("size %q: must be WIDTHxHEIGHT such as 1280x720", text)
	}
	s := Size{width, height}
	return s, s.validate()
}

func (s Size) validate() error {
	switch {
	case s.Width < MinSize.Width || s.Height < MinSize.Height || s.Width > MaxSize.Width || s.Height > MaxSize.Height:
		return fmt.Errorf("size %s: must be between %s and %s", s, MinSize, MaxSize)
	case s.Width%2 != 0 || s.Height%2 != 0:
		return fmt.Errorf("size %s: width and height must be even, for video has half as many colour samples", s)
	}
	return nil
}

func validateApps(apps [][]string) error {
	for i, argv := range apps {
		if len(argv) == 0 || argv[0] == "" {
			return fmt.Errorf("app %d: %w", i+1, errors.New("the command is empty"))
		}
	}
	return nil
}
