package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/wavry/fleet/master"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/state"
)

const scaleArg = "scale-state"

// scaleProcess runs the two halves as processes of their own, so that the peak of memory of each is its own.
func scaleProcess(ctx context.Context, o options, dir string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for _, half := range []string{"save", "restore"} {
		cmd := exec.CommandContext(ctx, self, scaleArg, "-half="+half, "-file="+filepath.Join(dir, "state.snapshot"), "-leases="+strconv.Itoa(o.leases))
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w", half, err)
		}
	}
	return nil
}

func scale(args []string) error {
	flags := flag.NewFlagSet(scaleArg, flag.ContinueOnError)
	half, path, leases := flags.String("half", "", ""), flags.String("file", "", ""), flags.Int("leases", 0, "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	debug.SetGCPercent(master.GCPercent) // as wavry master does
	debug.SetMemoryLimit(master.MemoryLimit)
	if *half == "restore" {
		return restoreScale(*path, *leases)
	}
	return saveScale(*path, *leases)
}

func saveScale(path string, leases int) error {
	s, err := build(10_000, 20_000, leases)
	if err != nil {
		return err
	}
	began := time.Now()
	snapshot := s.Snapshot()
	held := time.Since(began)
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := snapshot.Write(file); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	took := time.Since(began)
	info, err := file.Stat()
	if err != nil {
		return err
	}
	fmt.Printf("scale: snapshot of %d leases: %s (state locked for %s), %d MiB on disk, peak memory %d MiB\n",
		leases, took.Round(time.Millisecond), held.Round(time.Millisecond), info.Size()>>20, peakMiB())
	return nil
}

func restoreScale(path string, leases int) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	began := time.Now()
	s, err := state.Read(file)
	if err != nil {
		return err
	}
	took := time.Since(began)
	if s.LiveCount() != leases {
		return fmt.Errorf("%d leases restored, want %d", s.LiveCount(), leases)
	}
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fmt.Printf("scale: restore of %d leases: %s, peak memory %d MiB, %d MiB in use afterwards\n", leases, took.Round(time.Millisecond), peakMiB(), m.HeapAlloc>>20)
	runtime.KeepAlive(s)
	return nil
}

// build makes a state through commands, as a log would.
func build(relays, hosts, leases int) (*state.State, error) {
	s := state.New()
	index, now := uint64(0), state.Millis(1_800_000_000_000)
	var batch []state.Command
	flush := func() error {
		index++
		results, err := s.Apply(index, state.AppendEntry(nil, now, batch...))
		if err != nil {
			return err
		}
		for _, r := range results {
			if r.Err() != nil {
				return r.Err()
			}
		}
		s.TakeEvents()
		batch = batch[:0]
		return nil
	}
	add := func(c state.Command) error {
		if batch = append(batch, c); len(batch) < 256 {
			return nil
		}
		return flush()
	}
	commands := func(n int, make func(int) state.Command) error {
		for i := range n {
			if err := add(make(i)); err != nil {
				return err
			}
		}
		return flush()
	}
	if err := commands(1, func(int) state.Command { return &state.AddKey{ID: "k1", Public: "p", Sealed: "s"} }); err != nil {
		return nil, err
	}
	if err := commands(relays, func(i int) state.Command {
		return &state.PutRelay{Relay: state.Relay{ID: fmt.Sprintf("relay-%05d", i), Region: "eu", Version: "1.0", ControlAddress: "198.51.100.1:4000", MediaAddress: "198.51.100.1", PublicKey: strings.Repeat("k", 32), Boot: "b", Capacity: 1000}}
	}); err != nil {
		return nil, err
	}
	if err := commands(hosts, func(i int) state.Command {
		return &state.PutHost{Host: state.Host{ID: fmt.Sprintf("host-%05d", i), Pool: "default", Region: "eu", Identity: strings.Repeat("k", 32), Boot: "b", Slots: 64,
			Addresses: []string{"192.0.2.1:4433", "[2001:db8::1]:4433"}, Compositor: "gnome", Capture: "capture-wayland", Encoder: "encode-vaapi", Codecs: []string{"h264", "hevc"}}}
	}); err != nil {
		return nil, err
	}
	err := commands(leases, func(i int) state.Command {
		return &state.IssueLease{Pool: "default", Lease: state.Lease{
			ID: fmt.Sprintf("lease-%018d", i), Session: fmt.Sprintf("session-%016d", i), Viewer: fmt.Sprintf("viewer-%017d", i), Login: fmt.Sprintf("user%d@example.org", i),
			Host: fmt.Sprintf("host-%05d", i%hosts), Relay: fmt.Sprintf("relay-%05d", i%relays), Key: "k1", Address: "203.0.113.77", Circuit: uint64(i)*2654435761 + 1,
			Rate: 20_000_000, Expiry: now + 300_000, Role: masterapi.ViewerRole_VIEWER_ROLE_CONTROL,
		}}
	})
	return s, err
}

// peakMiB is the highest resident size of this process.
func peakMiB() int {
	file, err := os.Open("/proc/self/status")
	if err != nil {
		return 0
	}
	defer file.Close()
	scanner := bufio.NewScanner(file)
	for scanner.Scan() {
		if rest, ok := strings.CutPrefix(scanner.Text(), "VmHWM:"); ok {
			kb, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				return 0
			}
			return kb / 1024
		}
	}
	return 0
}
