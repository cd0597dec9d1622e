package fingerprint

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
)

// Lock pins versions: a node image that was tested is recorded, and another one is noticed.
type Lock struct {
	Versions map[string]string `json:"versions"`
}

// Mismatch is one version that is not the pinned one. Found is empty when the thing is missing.
type Mismatch struct {
	Name   string `json:"name"`
	Pinned string `json:"pinned"`
	Found  string `json:"found"`
}

func (m Mismatch) String() string {
	if m.Found == "" {
		return fmt.Sprintf("%s is missing, pinned is %s", m.Name, m.Pinned)
	}
	return fmt.Sprintf("%s is %s, pinned is %s", m.Name, m.Found, m.Pinned)
}

// ReadLock reads a lock file.
func ReadLock(path string) (Lock, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Lock{}, fmt.Errorf("read lock file: %w", err)
	}
	var l Lock
	if err := json.Unmarshal(b, &l); err != nil {
		return Lock{}, fmt.Errorf("read lock file %s: %w", path, err)
	}
	if len(l.Versions) == 0 {
		return Lock{}, fmt.Errorf("read lock file %s: it pins nothing; write one with `wavry host doctor -write-lock %s`", path, path)
	}
	return l, nil
}

// WriteLock records the versions of r.
func (r *Result) WriteLock(path string) error {
	b, err := json.MarshalIndent(Lock{Versions: r.Versions}, "", "  ")
	if err != nil {
		return fmt.Errorf("write lock file: %w", err)
	}
	if err := os.WriteFile(path, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("write lock file: %w", err)
	}
	return nil
}

// Compare lists every pinned version that r does not have. What is not pinned may be anything.
func (l Lock) Compare(r *Result) []Mismatch {
	list := []Mismatch{} // not nil: it is an array in JSON
	for _, name := range slices.Sorted(maps.Keys(l.Versions)) {
		if found := r.Versions[name]; found != l.Versions[name] {
			list = append(list, Mismatch{Name: name, Pinned: l.Versions[name], Found: found})
		}
	}
	return list
}
