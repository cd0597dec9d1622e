package pluginhost

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Role is what a plugin binary does, known from its name.
type Role string

// The roles.
const (
	RoleCapture Role = "capture"
	RoleEncode  Role = "encode"
)

// Binary is a plugin found on disk.
type Binary struct {
	Name string // "capture-wayland": what operators write in preferences
	Role Role
	Path string
}

// DefaultDirs is where plugins are looked for besides dirs that the operator names: the directory of the running binary.
func DefaultDirs() []string {
	self, err := os.Executable()
	if err != nil { // /proc is not mounted
		return nil
	}
	if resolved, err := filepath.EvalSymlinks(self); err == nil && filepath.Dir(resolved) != filepath.Dir(self) {
		return []string{filepath.Dir(self), filepath.Dir(resolved)}
	}
	return []string{filepath.Dir(self)}
}

// Discover lists the binaries named wavry-capture-* and wavry-encode-* in dirs, sorted by name; of two with one name the earlier
// directory's wins. A directory that is missing or unreadable is an error naming it, and the rest is still returned.
func Discover(dirs ...string) ([]Binary, error) {
	found := map[string]Binary{}
	var problems []error
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			problems = append(problems, fmt.Errorf("look for plugins: %w", err))
		}
		for _, e := range entries {
			b, ok := binary(dir, e)
			if _, earlier := found[b.Name]; ok && !earlier {
				found[b.Name] = b
			}
		}
	}
	list := make([]Binary, 0, len(found))
	for _, b := range found {
		list = append(list, b)
	}
	slices.SortFunc(list, func(a, b Binary) int { return strings.Compare(a.Name, b.Name) })
	return list, errors.Join(problems...)
}

func binary(dir string, e fs.DirEntry) (Binary, bool) {
	name := strings.TrimPrefix(e.Name(), "wavry-")
	role := roleOf(e.Name())
	if role == "" || e.IsDir() || strings.Contains(name, ".") {
		return Binary{}, false
	}
	return Binary{Name: name, Role: role, Path: filepath.Join(dir, e.Name())}, true
}

// roleOf is what a binary's name says, or empty.
func roleOf(file string) Role {
	for _, role := range []Role{RoleCapture, RoleEncode} {
		if strings.HasPrefix(file, "wavry-"+string(role)+"-") {
			return role
		}
	}
	return ""
}
