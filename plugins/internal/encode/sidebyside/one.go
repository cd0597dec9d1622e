package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

//go:embed testdata/one.c
var oneSource []byte

// buildOne compiles the program that stands for gst-launch-1.0.
func buildOne(ctx context.Context, dir string) (string, error) {
	source, program := filepath.Join(dir, "one.c"), filepath.Join(dir, "one")
	if err := os.WriteFile(source, oneSource, 0o600); err != nil {
		return "", err
	}
	c := exec.CommandContext(ctx, "sh", "-c", `exec cc -O2 -o "$1" "$2" $(pkg-config --cflags --libs gstreamer-1.0)`, "cc", program, source)
	if out, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("compile one.c: %w: %s", err, out)
	}
	return program, nil
}

// runOne encodes the pictures at the rate in one process.
func runOne(ctx context.Context, program string, pictures []string, o options, elements string) (result, error) {
	args := []string{elements}
	for _, n := range []int{o.width, o.height, int(o.fps * 1000), o.warm() + o.counted(), o.warm()} {
		args = append(args, strconv.Itoa(n))
	}
	out, err := exec.CommandContext(ctx, program, append(args, pictures...)...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return result{}, err
	}
	var times []time.Duration
	for line := range strings.Lines(string(out)) {
		ns, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
		if err != nil {
			return result{}, fmt.Errorf("read the output of one: %w", err)
		}
		times = append(times, time.Duration(ns))
	}
	if len(times) != 1+o.counted() {
		return result{}, fmt.Errorf("one printed %d times", len(times))
	}
	return result{cpu: times[0], latencies: times[1:]}, nil
}
