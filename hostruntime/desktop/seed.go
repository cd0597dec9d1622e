package desktop

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// seed writes files into the home, by path below it, where they are not there yet: they are the user's from then on. A process of
// the user unpacks them, for what it meets on the way (links, other people's directories) is the user's affair.
func (s *stack) seed(ctx context.Context, files map[string]string) error {
	archive, err := pack(files)
	if err != nil {
		return err
	}
	fd, err := unix.MemfdCreate("seed", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("seed the home: %w", err)
	}
	f := os.NewFile(uintptr(fd), "seed")
	defer f.Close()
	if _, err := f.WriteAt(archive, 0); err != nil {
		return fmt.Errorf("seed the home: %w", err)
	}
	p, err := s.spawn(command{
		name: "seed", argv: []string{"tar", "--extract", "--skip-old-files", "--no-same-owner", "--file=-"}, dir: s.d.places.home, stdin: f,
	})
	if err != nil {
		return err
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if p.err != nil { // a home that was kept, and in which a file is where a directory should be
		s.d.log.Warn("home lacks some of the desktop's settings", "err", p.exit())
	}
	return nil
}

func pack(files map[string]string) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		text := files[name]
		if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o600, Size: int64(len(text))}); err != nil {
			return nil, fmt.Errorf("seed the home: %w", err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			return nil, fmt.Errorf("seed the home: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("seed the home: %w", err)
	}
	return b.Bytes(), nil
}
