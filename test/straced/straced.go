// Package straced reads what strace saw of a program and its children, and finds where a process of uid 0 used a path that somebody else
// can change: one that leads through a directory which is not root's.
//
// One thing is allowed there: to go down and remove by descriptor, a name at a time, without following links (openat with O_NOFOLLOW
// and O_DIRECTORY, newfstatat with AT_SYMLINK_NOFOLLOW, unlinkat), for whatever others do meanwhile it stays in what is theirs.
package straced

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Args are strace's for Check, without the output: -D leaves the traced program our child.
var Args = []string{"-D", "-f", "-y", "-qq", "--seccomp-bpf", "--signal=none", "-e",
	"trace=%file,connect,bind,fchown,fchdir,setuid,setreuid,setresuid,setfsuid,clone,clone3,fork,vfork"}

// Finding is what Check saw.
type Finding struct {
	Root, Others int      // calls with a path, by the caller's effective uid
	Bad          []string // those that broke the rule, as strace writes them
}

// Check reads strace's output as it comes until it ends. foreign says whether a directory, which may be gone, is somebody else's; the
// output tells it too, by chown and by who makes directories.
func Check(r io.Reader, foreign func(dir string) bool) (Finding, error) {
	c := &checker{foreign: foreign, theirs: map[string]bool{}, tasks: map[int]*task{}, early: map[int][]string{}}
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			if err := c.line(strings.TrimSuffix(line, "\n")); err != nil {
				return c.found, fmt.Errorf("%w in %q", err, line)
			}
		}
		if err == io.EOF {
			return c.found, nil
		}
		if err != nil {
			return c.found, err
		}
	}
}

// Foreign looks at the file system as it is now: what others own there, but for the kernel's own views.
func Foreign(dir string) bool {
	if dir == "/proc" || dir == "/sys" || strings.HasPrefix(dir, "/sys/") {
		return false
	}
	if strings.HasPrefix(dir, "/proc/") {
		return through.MatchString(dir) // the rest of /proc/PID nobody can change
	}
	info, err := os.Lstat(dir)
	return err == nil && info.Sys().(*syscall.Stat_t).Uid != 0
}

// through are the doors from /proc into what a process sees.
var through = regexp.MustCompile(`^/proc/[^/]+/(task/[^/]+/)?(root|cwd|fd/[^/]+)$`)

type task struct {
	euid    int
	pending string // the call that has begun and not returned
}

type checker struct {
	foreign func(string) bool
	theirs  map[string]bool
	tasks   map[int]*task
	early   map[int][]string // of children whose parent's clone has not returned
	found   Finding
}

var (
	headed  = regexp.MustCompile(`^(\d+) +(.*)$`)
	resumed = regexp.MustCompile(`^<\.\.\. \w+ resumed>(.*)$`)
	call    = regexp.MustCompile(`^(\w+)\((.*)\) += (\S+)`)
)

const unfinished = " <unfinished ...>"

func (c *checker) line(line string) error {
	m := headed.FindStringSubmatch(line)
	if m == nil {
		return fmt.Errorf("no process")
	}
	pid, err := strconv.Atoi(m[1])
	if err != nil {
		return err
	}
	if len(c.tasks) == 0 {
		c.tasks[pid] = &task{} // what strace was told to run
	}
	t := c.tasks[pid]
	if t == nil {
		c.early[pid] = append(c.early[pid], line)
		return nil
	}
	text := m[2]
	if strings.HasSuffix(text, unfinished) {
		t.pending = strings.TrimSuffix(text, unfinished)
		return nil
	}
	if r := resumed.FindStringSubmatch(text); r != nil {
		text = t.pending + r[1]
	}
	if strings.HasPrefix(text, "+++") || strings.HasPrefix(text, "---") {
		return nil
	}
	k := call.FindStringSubmatch(text)
	if k == nil {
		return nil // killed in the middle
	}
	return c.call(t, k[1], split(k[2]), k[3], text)
}

// call judges one call that has returned.
func (c *checker) call(t *task, name string, args []string, result, text string) error {
	ok := !strings.HasPrefix(result, "-")
	switch name {
	case "clone", "clone3", "fork", "vfork":
		return c.born(t, result)
	case "setuid", "setfsuid":
		return t.becomes(args, 0, ok)
	case "setreuid", "setresuid":
		return t.becomes(args, 1, ok)
	}
	for _, p := range paths(name, args) {
		if t.euid != 0 {
			c.found.Others++
			continue
		}
		c.found.Root++
		if c.leadsThrough(p) && !byDescriptor(name, args) {
			c.found.Bad = append(c.found.Bad, text)
		}
	}
	if ok {
		c.learn(t, name, args)
	}
	return nil
}

func (c *checker) born(parent *task, result string) error {
	pid, err := strconv.Atoi(strings.TrimRight(result, "?"))
	if err != nil || pid <= 0 {
		return nil // no child
	}
	c.tasks[pid] = &task{euid: parent.euid}
	early := c.early[pid]
	delete(c.early, pid)
	for _, line := range early {
		if err := c.line(line); err != nil {
			return err
		}
	}
	return nil
}

// becomes takes the effective uid from an argument; -1 leaves it.
func (t *task) becomes(args []string, i int, ok bool) error {
	if !ok {
		return nil
	}
	if i >= len(args) {
		return fmt.Errorf("too few arguments")
	}
	uid, err := strconv.Atoi(args[i])
	if err == nil && uid >= 0 {
		t.euid = uid
	}
	return err
}

// learn notes directories that became, or moved as, somebody else's.
func (c *checker) learn(t *task, name string, args []string) {
	p := paths(name, args)
	switch name {
	case "mkdir", "mkdirat":
		if t.euid != 0 {
			c.theirs[p[0]] = true
		}
	case "chown", "lchown", "fchown", "fchownat":
		at := 1
		if name == "fchownat" {
			at = 2
		}
		if name == "fchown" {
			p = []string{described(args[0])}
		}
		if len(p) > 0 && args[at] != "0" && args[at] != "-1" {
			c.theirs[p[0]] = true
		}
	case "rename", "renameat", "renameat2":
		for dir := range c.theirs {
			if rest, below := strings.CutPrefix(dir, p[0]); below && (rest == "" || rest[0] == '/') {
				delete(c.theirs, dir)
				c.theirs[p[1]+rest] = true
			}
		}
	}
}

// leadsThrough says whether a directory above the path is somebody else's.
func (c *checker) leadsThrough(p string) bool {
	for dir := path.Dir(p); dir != "/" && dir != "."; dir = path.Dir(dir) {
		if c.theirs[dir] || c.foreign(dir) {
			return true
		}
	}
	return false
}

// byDescriptor recognises the steps down that cannot be led astray.
func byDescriptor(name string, args []string) bool {
	if len(args) < 2 || strings.HasPrefix(args[0], "AT_FDCWD") || strings.Contains(args[1], "/") || args[1] == `".."` {
		return false
	}
	flags := args[len(args)-1]
	switch name {
	case "unlinkat":
		return true
	case "openat":
		flags = args[2]
		return strings.Contains(flags, "O_NOFOLLOW") && strings.Contains(flags, "O_DIRECTORY")
	case "newfstatat":
		return strings.Contains(flags, "AT_SYMLINK_NOFOLLOW")
	}
	return false
}

// at are the calls that take (directory, path) from argument 0; the value is where a second pair begins, 0: there is none.
var at = map[string]int{
	"openat": 0, "openat2": 0, "newfstatat": 0, "statx": 0, "unlinkat": 0, "mkdirat": 0, "mknodat": 0, "fchmodat": 0, "fchmodat2": 0, "fchownat": 0,
	"readlinkat": 0, "faccessat": 0, "faccessat2": 0, "utimensat": 0, "futimesat": 0, "execveat": 0, "name_to_handle_at": 0, "open_tree": 0,
	"renameat": 2, "renameat2": 2, "linkat": 2, "fanotify_mark": 0,
}

var sunPath = regexp.MustCompile(`sun_path=("(?:[^"\\]|\\.)*")`)

// paths are the absolute paths that a call is led along.
func paths(name string, args []string) (list []string) {
	add := func(dir, quoted string) {
		p, err := strconv.Unquote(strings.TrimSuffix(quoted, "..."))
		switch {
		case err != nil || p == "": // NULL, or what the descriptor holds itself
		case path.IsAbs(p):
			list = append(list, path.Clean(p))
		default:
			list = append(list, path.Join(dir, p))
		}
	}
	second, isAt := at[name]
	switch {
	case len(args) == 0 || name == "fchown" || name == "fchdir" || name == "getcwd":
	case name == "connect" || name == "bind":
		if m := sunPath.FindStringSubmatch(strings.Join(args, ",")); m != nil {
			add("/", m[1])
		}
	case name == "symlinkat" && len(args) > 2:
		add(described(args[1]), args[2])
	case name == "symlink" && len(args) > 1, name == "mount" && len(args) > 1, name == "inotify_add_watch" && len(args) > 1:
		add("/", args[1])
	case isAt && len(args) > 1:
		add(described(args[0]), args[1])
		if second > 0 && len(args) > second+1 {
			add(described(args[second]), args[second+1])
		}
	default:
		add("/", args[0])
		if (name == "rename" || name == "link" || name == "pivot_root") && len(args) > 1 {
			add("/", args[1])
		}
	}
	return list
}

// described is the path that strace prints beside a descriptor.
func described(arg string) string {
	_, p, _ := strings.Cut(arg, "<")
	return strings.TrimSuffix(strings.TrimSuffix(p, "(deleted)"), ">")
}

// split cuts arguments at the commas that are outside of quotes and brackets.
func split(args string) (list []string) {
	depth, begin, quoted := 0, 0, false
	for i := 0; i < len(args); i++ {
		switch ch := args[i]; {
		case quoted && ch == '\\':
			i++
		case ch == '"':
			quoted = !quoted
		case quoted:
		case strings.IndexByte("{[(<", ch) >= 0:
			depth++
		case strings.IndexByte("}])", ch) >= 0, ch == '>' && (i == 0 || args[i-1] != '-' && args[i-1] != '='):
			depth--
		case ch == ',' && depth <= 0:
			list = append(list, strings.TrimSpace(args[begin:i]))
			begin = i + 1
		}
	}
	if rest := strings.TrimSpace(args[begin:]); rest != "" || len(list) > 0 {
		list = append(list, rest)
	}
	return slices.Clip(list)
}
