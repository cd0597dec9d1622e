package asroot

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

const stranger = 60999 // nobody's

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can act as somebody else")
	}
}

// TestAsUserHasTheUsersRights proves that nothing of root's is left: neither its files nor its sockets, through links neither, and that
// the rest of the process is unchanged.
func TestAsUserHasTheUsersRights(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "root.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Chmod(l.Addr().String(), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 20 { // threads come and go
		err = AsUser(stranger, stranger, func() error {
			if uid := unix.Geteuid(); uid != stranger {
				t.Errorf("uid %d", uid)
			}
			if groups, err := unix.Getgroups(); err != nil || len(groups) > 0 {
				t.Errorf("groups %v, %v", groups, err)
			}
			if _, err := os.Open(secret); !errors.Is(err, os.ErrPermission) {
				t.Errorf("open root's file: %v", err)
			}
			if c, err := net.Dial("unix", l.Addr().String()); err == nil {
				t.Error("connected to root's socket")
				c.Close()
			}
			if unix.RawSyscallNoError(unix.SYS_SETUID, 0, 0, 0); unix.Geteuid() == 0 {
				t.Error("became root again")
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if unix.Geteuid() != 0 {
			t.Fatal("this thread is not root any more")
		}
	}
	if err := AsUser(0, 5, func() error { return nil }); err == nil {
		t.Error("root is a user")
	}
}

// TestCheckPathSeesAccessLists proves that a user whom an access list lets write is seen, though the mode says root's group only.
func TestCheckPathSeesAccessLists(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	acl := binary.LittleEndian.AppendUint32(nil, 2) // the version
	for _, e := range []struct {
		tag, perm uint16
		id        uint32
	}{{1, 7, 1<<32 - 1}, {2, 7, stranger}, {4, 5, 1<<32 - 1}, {16, 7, 1<<32 - 1}, {32, 5, 1<<32 - 1}} { // owner, named user, group, mask, others
		acl = binary.LittleEndian.AppendUint16(acl, e.tag)
		acl = binary.LittleEndian.AppendUint16(acl, e.perm)
		acl = binary.LittleEndian.AppendUint32(acl, e.id)
	}
	if err := unix.Setxattr(dir, "system.posix_acl_access", acl, 0); errors.Is(err, unix.EOPNOTSUPP) {
		t.Skip("the temporary directory's file system has no access lists")
	} else if err != nil {
		t.Fatal(err)
	}
	if untrusted := (*UntrustedPathError)(nil); !errors.As(CheckPath(filepath.Join(dir, "file")), &untrusted) {
		t.Error("trusted a directory in which a stranger may write")
	}
}

// TestCheckPath proves which paths root may use.
func TestCheckPath(t *testing.T) {
	needRoot(t)
	dir, err := os.MkdirTemp("/tmp", "asroot") // below a sticky directory
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	make := func(name string, mode os.FileMode, uid, gid int) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.Mkdir(path, 0o700), os.Chown(path, uid, gid), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	link := func(name, to string, uid int) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.Symlink(to, path), os.Lchown(path, uid, uid)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	mine, theirs := make("mine", 0o755, 0, 0), make("theirs", 0o700, stranger, stranger)
	tests := []struct {
		name, path string
		ok         bool
	}{
		{"root's", mine + "/file", true},
		{"several that are not there", mine + "/a/b", true},
		{"somebody's", theirs + "/file", false},
		{"writable for all", make("all", 0o777, 0, 0) + "/file", false},
		{"sticky", make("sticky", 0o777|os.ModeSticky, 0, 0) + "/file", true},
		{"writable for a group", make("group", 0o775, 0, stranger) + "/file", false},
		{"writable for root's group", make("rootgroup", 0o775, 0, 0) + "/file", true},
		{"root's link to root's", link("good", mine, 0) + "/file", true},
		{"root's link to somebody's", link("bad", theirs, 0) + "/file", false},
		{"somebody's link", link("foreign", mine, stranger) + "/file", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := CheckPath(test.path)
			if untrusted := (*UntrustedPathError)(nil); (err == nil) != test.ok || err != nil && !errors.As(err, &untrusted) {
				t.Errorf("%s: %v", test.path, err)
			}
		})
	}
}
