package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/wavry/fleet/master/bench/etcdkv"
)

// etcds are three etcd servers of the system's package, with its defaults: every write is synced.
type etcds struct {
	servers []*child
	urls    []string
	leader  string
}

func startEtcd(ctx context.Context, dir string) (*etcds, error) {
	path, err := exec.LookPath("etcd")
	if err != nil {
		return nil, fmt.Errorf("etcd is needed beside the master (package etcd-server): %w", err)
	}
	e := &etcds{}
	var names, peers, cluster []string
	for i := range 3 {
		client, err := freeAddress()
		if err != nil {
			return nil, err
		}
		peer, err := freeAddress()
		if err != nil {
			return nil, err
		}
		name := fmt.Sprintf("e%d", i+1)
		names, peers, e.urls = append(names, name), append(peers, peer), append(e.urls, client)
		cluster = append(cluster, name+"=http://"+peer)
	}
	for i, name := range names {
		c, err := start(filepath.Join(dir, name+".log"), path, "--name", name, "--data-dir", filepath.Join(dir, name),
			"--listen-client-urls", "http://"+e.urls[i], "--advertise-client-urls", "http://"+e.urls[i],
			"--listen-peer-urls", "http://"+peers[i], "--initial-advertise-peer-urls", "http://"+peers[i],
			"--initial-cluster", strings.Join(cluster, ","), "--initial-cluster-state", "new", "--log-level", "error", "--quota-backend-bytes", "8589934592")
		if err != nil {
			return nil, err
		}
		e.servers = append(e.servers, c)
	}
	return e, until(ctx, 30*time.Second, func() bool { return e.findLeader(ctx) == nil })
}

// findLeader lets the benchmark talk to etcd's leader directly, as the master's client does.
func (e *etcds) findLeader(ctx context.Context) error {
	for _, url := range e.urls {
		status, err := e.status(ctx, url)
		if err != nil {
			continue
		}
		if status.GetLeader() != 0 && status.GetLeader() == status.GetHeader().GetMemberId() {
			e.leader = url
			return nil
		}
	}
	return errors.New("etcd has no leader")
}

func (e *etcds) status(ctx context.Context, url string) (*etcdkv.StatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := grpc.NewClient(url, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return etcdkv.NewMaintenanceClient(conn).Status(ctx, &etcdkv.StatusRequest{})
}

func (e *etcds) client() (etcdkv.KVClient, func(), error) {
	conn, err := grpc.NewClient(e.leader, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, nil, err
	}
	return etcdkv.NewKVClient(conn), func() { _ = conn.Close() }, nil
}

func (e *etcds) stop() {
	for _, s := range e.servers {
		s.kill()
	}
}
