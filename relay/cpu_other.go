//go:build !unix

package relay

// cpuMeter knows nothing here.
type cpuMeter struct{}

func (*cpuMeter) share() float64 { return 0 }
