package raftnode

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"
)

// stores are where one server keeps its part of Raft.
type stores struct {
	logs      raft.LogStore
	stable    raft.StableStore
	snapshots raft.SnapshotStore
	closer    io.Closer
}

// openStores opens the write-ahead log and the snapshots in dir; an empty dir keeps everything in memory.
func openStores(dir string, segment int, log hclog.Logger, failed func(error)) (*stores, error) {
	if dir == "" {
		memory := raft.NewInmemStore()
		return &stores{logs: memory, stable: memory, snapshots: raft.NewInmemSnapshotStore(), closer: io.NopCloser(nil)}, nil
	}
	path := filepath.Join(dir, "raft", "wal")
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make raft directory: %w", err)
	}
	// The log's own Close leaves its metadata open, and with it the lock on the file: it is ours to close.
	meta := &metadb.BoltMetaDB{}
	if segment == 0 {
		segment = wal.DefaultSegmentSize
	}
	w, err := wal.Open(path, wal.WithLogger(log.Named("wal")), wal.WithMetaStore(meta), wal.WithSegmentSize(segment))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: open %s: %w", ErrStorage, path, err), meta.Close())
	}
	closer := closers{w, meta}
	watched := &watchedStore{WAL: w, failed: failed}
	cache, err := raft.NewLogCache(logCache, watched)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make log cache: %w", err), closer.Close())
	}
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(filepath.Join(dir, "raft"), snapshotsKept, log.Named("snapshot"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open snapshots: %w", err), closer.Close())
	}
	return &stores{logs: cache, stable: watched, snapshots: snapshots, closer: closer}, nil
}

// closers are closed one after the other.
type closers []io.Closer

// Close implements io.Closer.
func (c closers) Close() error {
	var problems []error
	for _, one := range c {
		problems = append(problems, one.Close())
	}
	return errors.Join(problems...)
}

// watchedStore reports the first failed write, so that the server stops with a clear error instead of campaigning with a log it cannot write.
type watchedStore struct {
	*wal.WAL
	failed func(error)
}

func (s *watchedStore) check(what string, err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%w: %s: %w", ErrStorage, what, err)
	s.failed(err)
	return err
}

// StoreLog implements raft.LogStore.
func (s *watchedStore) StoreLog(log *raft.Log) error { return s.check("append", s.WAL.StoreLog(log)) }

// StoreLogs implements raft.LogStore.
func (s *watchedStore) StoreLogs(logs []*raft.Log) error {
	return s.check("append", s.WAL.StoreLogs(logs))
}

// Set implements raft.StableStore.
func (s *watchedStore) Set(key, value []byte) error { return s.check("vote", s.WAL.Set(key, value)) }

// SetUint64 implements raft.StableStore.
func (s *watchedStore) SetUint64(key []byte, value uint64) error {
	return s.check("term", s.WAL.SetUint64(key, value))
}
