package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/wavry/fleet/master/masterapi"
)

// failover kills the leader again and again under a steady load and measures how long nothing was answered.
func failover(ctx context.Context, o options, dir string) error {
	dir = filepath.Join(dir, "failover")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	m, err := startMasters(ctx, dir, "")
	if err != nil {
		return err
	}
	defer m.stop()
	issue, stop, err := admitter(m)
	if err != nil {
		return err
	}
	defer stop()
	operator, err := m.client("operator")
	if err != nil {
		return err
	}
	defer operator.Close()
	var gaps []time.Duration
	for range o.kills {
		if err := m.settled(ctx); err != nil {
			return err
		}
		peers, err := operator.Operator().ListPeers(ctx, &masterapi.ListPeersRequest{})
		if err != nil {
			return err
		}
		leader := peers.GetPeers()[slices.IndexFunc(peers.GetPeers(), (*masterapi.Peer).GetLeader)].GetServerId()
		gap, err := killUnderLoad(ctx, m, leader, issue)
		if err != nil {
			return err
		}
		gaps = append(gaps, gap)
		fmt.Printf("failover: leader %s killed, %s without an answer\n", leader, gap.Round(time.Millisecond))
		if err := m.start(leader); err != nil {
			return err
		}
	}
	slices.Sort(gaps)
	fmt.Printf("\nfailover, %d kills: median %s, p99 (worst) %s\n", len(gaps), gaps[len(gaps)/2].Round(time.Millisecond), gaps[len(gaps)-1].Round(time.Millisecond))
	return nil
}

// settled waits until all three servers are healthy followers of one leader.
func (m *masters) settled(ctx context.Context) error {
	operator, err := m.client("operator")
	if err != nil {
		return err
	}
	defer operator.Close()
	return until(ctx, time.Minute, func() bool {
		peers, err := operator.Operator().ListPeers(ctx, &masterapi.ListPeersRequest{})
		if err != nil || len(peers.GetPeers()) != 3 {
			return false
		}
		for _, p := range peers.GetPeers() {
			if !p.GetHealthy() || !p.GetVoter() {
				return false
			}
		}
		return true
	})
}

// killUnderLoad returns the longest time without an answer around the kill.
func killUnderLoad(ctx context.Context, m *masters, leader string, issue func(context.Context, int) error) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	answers := make(chan time.Time, 1<<16)
	done := make(chan struct{})
	for w := range 8 {
		go func() {
			defer func() { done <- struct{}{} }()
			for ctx.Err() == nil {
				if issue(ctx, w) == nil {
					answers <- time.Now()
				}
			}
		}()
	}
	for range 200 { // a steady load first
		<-answers
	}
	m.servers[leader].kill()
	killed := time.Now()
	var gap time.Duration
	last := killed
	for n := 0; n < 200; {
		select {
		case at := <-answers:
			if at.Before(killed) {
				continue
			}
			gap = max(gap, at.Sub(last))
			last = at
			n++
		case <-ctx.Done():
			return 0, fmt.Errorf("no answer after the leader was killed: %w", ctx.Err())
		}
	}
	cancel()
	for range 8 {
		<-done
	}
	return gap, nil
}
