package pluginbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// Kind is which box.
type Kind string

// The kinds of boxes. The encoder's is the tighter one: it decodes what others made and needs nothing but the sockets it is handed.
const (
	Capture Kind = "capture"
	Encode  Kind = "encode"
)

// User is who the plugin becomes.
type User struct {
	UID, GID uint32
	Groups   []uint32
}

// Spec is a box and what is put into it.
type Spec struct {
	Kind Kind
	// Path of the plugin. It is opened before rights are dropped, so the plugin's user needs no way to it.
	Path string
	// User to become; nil: stay. Another user needs root.
	User *User `json:",omitempty"`
	// Dir is the working directory.
	Dir string
	// Writable are the directories that an encoder may write to. Readable are those it may read besides the system's.
	Writable, Readable []string `json:",omitempty"`
	// Parent is the process that the plugin must not outlive.
	Parent int
}

// name is argv[0] of a box: it says that the process is one.
const name = "wavry-plugin-box"

// Command is what to execute for s: the own binary. The files of the process must be 0 to 2 as the plugin gets them, the plugin's inbox,
// and the write end of a pipe for Wait.
func (s Spec) Command() (path string, args []string, err error) {
	text, err := json.Marshal(s)
	if err != nil {
		return "", nil, fmt.Errorf("describe a plugin's box: %w", err)
	}
	return "/proc/self/exe", []string{name, string(text)}, nil
}

// Wait returns when the plugin was executed (nil) or why it was not (*StepError). report is the read end of the pipe.
func Wait(report io.Reader) error {
	text, err := io.ReadAll(io.LimitReader(report, maxReport))
	if err != nil {
		return fmt.Errorf("wait for a plugin's box: %w", err)
	}
	if len(text) == 0 {
		return nil
	}
	var e StepError
	if err := json.Unmarshal(text, &e); err != nil {
		return fmt.Errorf("wait for a plugin's box: %w", err)
	}
	return &e
}

// init makes this process the box when it was started as one.
func init() {
	if len(os.Args) != 2 || os.Args[0] != name {
		return
	}
	report(enter(os.Args[1]))
	os.Exit(1)
}

// report tells Wait; when nobody waits there is nobody to tell.
func report(err error) {
	var e *StepError
	if !errors.As(err, &e) {
		e = &StepError{Step: "begin", Detail: err.Error()}
	}
	text, err := json.Marshal(e)
	if err != nil {
		return
	}
	_, _ = syscall.Write(reportFD, text)
}

// step names err, which is nil, an errno or another error.
func step(name string, err error) error {
	if err == nil {
		return nil
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return &StepError{Step: name, Detail: err.Error(), Errno: errno}
	}
	return &StepError{Step: name, Detail: err.Error()}
}
