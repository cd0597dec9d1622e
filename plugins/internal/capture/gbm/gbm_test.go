package gbm

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// A render node that is not there, and a file that is none, are refused with their reason and leave nothing open.
func TestOpenRefuses(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "renderD128")); !errors.Is(err, fs.ErrNotExist) && !unavailable(err) {
		t.Errorf("missing node: %v", err)
	}
	d, err := Open(os.DevNull)
	if err == nil { // Mesa falls back to its software driver, which has no memory to export
		_, _, err = d.Allocate(64, 64, 'X'|'R'<<8|'2'<<16|'4'<<24)
		if closeErr := d.Close(); closeErr != nil {
			t.Error(closeErr)
		}
	}
	if !errors.Is(err, ErrNoDevice) && !errors.Is(err, ErrNoMemory) && !unavailable(err) {
		t.Errorf("no render node: %v", err)
	}
}

// unavailable: the library is missing, which is all that can be said on such a machine.
func unavailable(err error) bool { return errors.Is(err, ErrNoLibrary) || errors.Is(err, ErrNoCgo) }
