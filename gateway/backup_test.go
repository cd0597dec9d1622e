package gateway

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/wavry/fleet/gateway/store"
)

// A gateway with a backup folder makes its first backup at once, and after a restart not before it is due.
func TestScheduledBackup(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "backups")
	s := startSite(t, func(c *Config) { c.Backup = Backup{Folder: folder, Every: time.Hour, Keep: 2} })
	s.admin()
	var files []string
	eventually(t, "a backup is there", func() bool {
		var err error
		files, err = store.Backups(folder, store.SQLite)
		return err == nil && len(files) == 1
	})
	if r, err := store.Verify(t.Context(), store.SQLite, files[0]); err != nil || r.Schema == 0 {
		t.Fatalf("backup %+v, %v", r, err)
	}
	if wait := s.untilBackup(); wait < 50*time.Minute || wait > time.Hour {
		t.Fatalf("the next one is due in %v", wait)
	}
	s.stop()
	again := runSite(t, s.fleet, s.cfg)
	again.stop()
	if files, err := store.Backups(folder, store.SQLite); err != nil || len(files) != 1 {
		t.Fatalf("after a restart %v, %v", files, err)
	}
}
