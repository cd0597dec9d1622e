// Package pgtest runs a private PostgreSQL server for one test: its own cluster in a temporary folder, an unprivileged user, a
// unix socket and no network. Only tests import it.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// startTimeout is generous: initdb takes two seconds on a free machine, more on a busy one.
const startTimeout = 2 * time.Minute

// Server is a running PostgreSQL.
type Server struct {
	bin, dir string
	owner    *syscall.Credential // nil: the user of the test
}

// Start makes a cluster and runs it until the test ends. The test fails when PostgreSQL is not installed.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{bin: findBin(t), owner: findOwner(t)}
	dir, err := os.MkdirTemp("", "wavry-pg") // t.TempDir's path can be too long for a unix socket
	if err != nil {
		t.Fatalf("make folder of the cluster: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s.dir = dir
	if s.owner != nil {
		if err := os.Chown(dir, int(s.owner.Uid), int(s.owner.Gid)); err != nil {
			t.Fatalf("give the folder to the cluster's user: %v", err)
		}
	}
	if err := s.run("initdb", "-D", s.data(), "-U", "wavry", "-A", "trust", "-E", "UTF8", "--no-sync"); err != nil {
		t.Fatalf("initdb: %v", err)
	}
	if err := s.Up(); err != nil {
		t.Fatalf("start PostgreSQL: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Down(); err != nil {
			t.Logf("stop PostgreSQL: %v", err)
		}
	})
	return s
}

// DSN is the connection URL of a database of this server.
func (s *Server) DSN(database string) string {
	return fmt.Sprintf("postgres://wavry@/%s?host=%s&sslmode=disable", database, s.dir)
}

// Create makes an empty database and returns its DSN.
func (s *Server) Create(t testing.TB, database string) string {
	t.Helper()
	if err := s.run("createdb", "-h", s.dir, "-U", "wavry", database); err != nil {
		t.Fatalf("create database %s: %v", database, err)
	}
	return s.DSN(database)
}

// Up starts the server and returns when it answers.
func (s *Server) Up() error {
	return s.run("pg_ctl", "-D", s.data(), "-w", "-l", filepath.Join(s.dir, "log"),
		"-o", "-c listen_addresses='' -c unix_socket_directories="+s.dir+" -c fsync=off", "start")
}

// Down stops the server at once, breaking its connections, and does nothing when it does not run.
func (s *Server) Down() error {
	if _, err := os.Stat(filepath.Join(s.data(), "postmaster.pid")); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return s.run("pg_ctl", "-D", s.data(), "-w", "-m", "fast", "stop")
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) run(name string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, name), args...)
	cmd.Dir, cmd.Env = s.dir, []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.owner}
	// pg_ctl's server inherits descriptors: a file, not a pipe, or Wait would wait for the server.
	out, err := os.CreateTemp("", "wavry-pg-out")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		said, _ := os.ReadFile(out.Name()) //nolint:errcheck // only decorates the error at hand
		return fmt.Errorf("%s: %w: %s", name, err, said)
	}
	return nil
}

func findBin(t testing.TB) string {
	t.Helper()
	if path, err := exec.LookPath("initdb"); err == nil {
		if real, err := filepath.EvalSymlinks(path); err == nil { // a lone link to it has no siblings
			return filepath.Dir(real)
		}
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		t.Fatal("PostgreSQL is not installed: apt-get install postgresql")
	}
	slices.Sort(found)
	return filepath.Dir(found[len(found)-1])
}

// findOwner picks the user nobody when the test is root, which PostgreSQL refuses to run as.
func findOwner(t testing.TB) *syscall.Credential {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatalf("find an unprivileged user: %v", err)
	}
	uid, err1 := strconv.ParseUint(nobody.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(nobody.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatalf("ids of nobody: %v", err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}
