package desktop

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
)

// recipe is what differs between the desktops.
type recipe struct {
	binaries       []program
	currentDesktop string   // XDG_CURRENT_DESKTOP
	portals        []string // names of portal backends, first preferred
	systemBus      bool     // needs a system bus that answers
	// env is added to the environment of all processes.
	env func(*Desktop) []string
	// seeds are files of the home, by path below it, which are the user's once written.
	seeds map[string]string
	// prepare writes configuration below conf and returns the compositor's argument vector and further
	// environment for it alone.
	prepare func(*Desktop) (argv, env []string, err error)
	// settled asks whether the compositor is up beyond its Wayland socket.
	settled func(context.Context, *Desktop) error
	// arranged is called once when all is up; its failure is only a blemish.
	arranged func(context.Context, *Desktop) error
	apps     [][]string
}

var recipes = map[Kind]recipe{Sway: swayRecipe, GNOME: gnomeRecipe, KDE: kdeRecipe}

// terminal is the application of a desktop that nobody configured: large enough to read in a scaled-down browser window.
func terminal(options ...string) [][]string {
	argv := append([]string{"foot", "-o", "main.font=monospace:size=11", "-o", "colors.background=141b24"}, options...)
	return [][]string{argv}
}

// apps are the configured applications, or those of the recipe that are installed.
func (d *Desktop) apps() [][]string {
	if d.cfg.Apps != nil {
		return d.cfg.Apps
	}
	var list [][]string
	for _, argv := range d.recipe.apps {
		if installed(argv[0]) {
			list = append(list, argv)
		}
	}
	return list
}

// seeds are all files that a home starts with.
func (d *Desktop) seeds() map[string]string {
	files := maps.Clone(d.recipe.seeds)
	path, text := d.portalsConf()
	files[path], files[audioDropIn] = text, audioSink
	return files
}

func nothing(context.Context, *Desktop) error { return nil }

// readOptional returns "" for a file that does not exist.
func readOptional(path string) (string, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(b), err
}
