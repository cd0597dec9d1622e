package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cpuOf is the processor time that the processes have used so far; on a shared machine it says more than the clock.
func cpuOf(children []*child) (total time.Duration) {
	for _, c := range children {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(data), ") ")
		fields := strings.Fields(rest)
		for _, i := range []int{11, 12} { // user and system time in ticks of 10 ms
			n, err := strconv.ParseInt(fields[i], 10, 64)
			if err == nil {
				total += time.Duration(n) * 10 * time.Millisecond
			}
		}
	}
	return total
}

// ownCPU is the processor time of this process: the callers' side of both.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
