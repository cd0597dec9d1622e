package capture

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Memory is anonymous shared memory, mapped here and passed on by descriptor. It is sealed: its size never changes again, so
// neither an encoder nor a compositor can fault by reading it.
type Memory struct {
	File *os.File
	Data []byte // the mapping; gone after Close
}

// NewMemory allocates size bytes of zeroes. name shows up under /proc only.
func NewMemory(name string, size int) (*Memory, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("create shared memory: %w", err)
	}
	m := &Memory{File: os.NewFile(uintptr(fd), name)}
	if err := m.fill(fd, size); err != nil {
		_ = m.File.Close()
		return nil, err
	}
	return m, nil
}

func (m *Memory) fill(fd, size int) error {
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return fmt.Errorf("give shared memory %d bytes: %w", size, err)
	}
	seals := unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return fmt.Errorf("seal shared memory: %w", err)
	}
	data, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map %d bytes of shared memory: %w", size, err)
	}
	m.Data = data
	return nil
}

// Close unmaps and closes; others who hold the descriptor keep the memory.
func (m *Memory) Close() error {
	if m.Data == nil {
		return nil
	}
	err := unix.Munmap(m.Data)
	m.Data = nil
	if closeErr := m.File.Close(); err == nil {
		err = closeErr
	}
	return err
}
