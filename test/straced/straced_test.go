package straced

import (
	"strings"
	"testing"
)

// TestCheck proves what is found and what is not, in output as strace 6.1 writes it.
func TestCheck(t *testing.T) {
	const begin = `100 execve("/usr/bin/wavry", ["wavry"], 0x7ffe /* 35 vars */) = 0
100 mkdir("/s/home", 0700) = 0
100 lchown("/s/home", 60600, 60600) = 0
`
	tests := []struct {
		name, text string
		bad        int
	}{
		{"the user's own directory", `100 newfstatat(AT_FDCWD</x>, "/s/home", {st_mode=S_IFDIR|0700, st_size=4096, ...}, AT_SYMLINK_NOFOLLOW) = 0`, 0},
		{"below it", `100 openat(AT_FDCWD</x>, "/s/home/.config", O_RDONLY|O_CLOEXEC) = -1 ENOENT (No such file or directory)`, 1},
		{"below it, relative", `100 openat(AT_FDCWD</s/home>, ".config", O_WRONLY|O_CREAT, 0600) = 3</s/home/.config>`, 1},
		{"below it, by an older call", `100 chmod("/s/home/a/b", 0600) = 0`, 1},
		{"a socket below it", `100 connect(7<socket:[1]>, {sa_family=AF_UNIX, sun_path="/s/home/wayland-1"}, 24) = 0`, 1},
		{"an abstract socket", `100 connect(7<socket:[1]>, {sa_family=AF_UNIX, sun_path=@"/s/home/x"}, 24) = 0`, 0},
		{"the second path", `100 renameat(AT_FDCWD</x>, "/s/new", AT_FDCWD</x>, "/s/home/new") = 0`, 1},
		{"by descriptor, without following", `100 openat(5</s/home>, "deep", O_RDONLY|O_NOFOLLOW|O_DIRECTORY|O_CLOEXEC) = 6</s/home/deep>
100 unlinkat(6</s/home/deep>, "file", 0) = 0`, 0},
		{"by descriptor, following", `100 openat(5</s/home>, "deep", O_RDONLY) = 6</s/home/deep>`, 1},
		{"by descriptor, two steps", `100 unlinkat(5</s/home>, "deep/file", 0) = 0`, 1},
		{"by descriptor, giving away", `100 fchownat(5</s/home>, "link", 60600, 60600, AT_SYMLINK_NOFOLLOW) = 0`, 1},
		{"what a descriptor holds", `100 newfstatat(5</s/home/x>, "", {st_mode=S_IFREG|0600, ...}, AT_EMPTY_PATH) = 0`, 0},
		{"moved aside", `100 rename("/s/home", "/s/old/1") = 0
100 openat(AT_FDCWD</x>, "/s/old/1/x", O_RDONLY) = 3</s/old/1/x>`, 1},
		{"and a new one", `100 rename("/s/home", "/s/old/1") = 0
100 openat(AT_FDCWD</x>, "/s/home/x", O_RDONLY) = 3</s/home/x>`, 0},
		{"a thread that became the user", `100 setresuid(60600, 60600, 60600) = 0
100 connect(7<socket:[1]>, {sa_family=AF_UNIX, sun_path="/s/home/wayland-1"}, 24) = 0`, 0},
		{"one that could not", `100 setresuid(60600, 60600, 60600) = -1 EPERM (Operation not permitted)
100 chdir("/s/home/x") = 0`, 1},
		{"a child that becomes the user, seen before its birth", `100 vfork( <unfinished ...>
101 setuid(60600) = 0
101 openat(AT_FDCWD</x>, "/s/home/x", O_RDONLY <unfinished ...>
100 <... vfork resumed>) = 101
101 <... openat resumed>) = 3</s/home/x>
100 openat(AT_FDCWD</x>, "/s/home/x", O_RDONLY) = 3</s/home/x>`, 1},
		{"a child of root's", `100 clone3({flags=CLONE_VM|CLONE_VFORK, exit_signal=SIGCHLD}, 88) = 101
101 newfstatat(AT_FDCWD</x>, "/s/home/x",  <unfinished ...>
101 <... newfstatat resumed>{st_mode=S_IFREG|0600, st_size=1, ...}, 0) = 0`, 1},
		{"a directory that the user made in a shared one", `100 clone(child_stack=NULL, flags=SIGCHLD) = 101
101 setuid(60600) = 0
101 mkdir("/shared/dir", 0777) = 0
100 open("/shared/dir/file", O_RDONLY) = 3`, 1},
		{"a directory that is known to be foreign", `100 stat("/foreign/a/b", 0x7ffe) = -1 ENOENT (No such file or directory)`, 1},
		{"through a process's root", `100 stat("/proc/77/root/etc/passwd", 0x7ffe) = 0`, 1},
		{"a link's text", `100 symlink("/s/home/x", "/s/link") = 0`, 0},
		{"a call that never returned", `100 openat(AT_FDCWD</x>, "/s/home/x", O_RDONLY <unfinished ...>
100 +++ killed by SIGKILL +++`, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			found, err := Check(strings.NewReader(begin+test.text+"\n"), func(dir string) bool { return dir == "/foreign" || through.MatchString(dir) })
			if err != nil || len(found.Bad) != test.bad {
				t.Errorf("%d bad %q, %v; want %d", len(found.Bad), found.Bad, err, test.bad)
			}
		})
	}
	if found, err := Check(strings.NewReader(begin+tests[1].text), func(string) bool { return false }); err != nil || found.Root != 4 || found.Others != 0 {
		t.Errorf("%+v, %v", found, err)
	}
	if _, err := Check(strings.NewReader("what is this\n"), func(string) bool { return false }); err == nil {
		t.Error("garbage is no output of strace")
	}
}
