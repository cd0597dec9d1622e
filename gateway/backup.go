package gateway

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/wavry/fleet/gateway/store"
)

// backupRetry is how soon a failed backup is tried again.
const backupRetry = 10 * time.Minute

// backUpRegularly backs the store up while it is in use and keeps the newest.
func (g *Gateway) backUpRegularly(ctx context.Context) error {
	if g.cfg.Backup.Folder == "" {
		return nil
	}
	wait := g.untilBackup()
	for {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		wait = g.cfg.Backup.Every
		if err := g.backUp(ctx); err != nil && ctx.Err() == nil {
			g.metrics.backups.WithLabelValues("failed").Inc()
			g.log.Error("backup of the accounts", "err", err)
			wait = min(backupRetry, wait)
		}
	}
}

// untilBackup is how long the newest backup is still good: a restart neither skips nor repeats one.
func (g *Gateway) untilBackup() time.Duration {
	files, err := store.Backups(g.cfg.Backup.Folder, g.cfg.Store.Driver)
	if err != nil || len(files) == 0 {
		return 0
	}
	newest, err := os.Stat(files[len(files)-1])
	if err != nil {
		return 0
	}
	g.metrics.lastBackup.Set(float64(newest.ModTime().Unix()))
	return max(newest.ModTime().Add(g.cfg.Backup.Every).Sub(g.cfg.Now()), 0)
}

func (g *Gateway) backUp(ctx context.Context) error {
	o := g.open.Load()
	report, err := o.store.Backup(ctx, g.cfg.Backup.Folder, g.cfg.Now())
	if err != nil {
		return err
	}
	g.metrics.backups.WithLabelValues("ok").Inc()
	g.metrics.lastBackup.Set(float64(g.cfg.Now().Unix()))
	removed, err := store.Prune(g.cfg.Backup.Folder, g.cfg.Store.Driver, g.cfg.Backup.Keep)
	if err != nil {
		return errors.Join(errors.New("the backup was made, older ones could not be removed"), err)
	}
	g.log.Info("accounts backed up", "file", report.Path, "bytes", report.Bytes, "removed", len(removed))
	return nil
}
