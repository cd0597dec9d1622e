package master

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/raft"

	"github.com/wavry/fleet/master/archive"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/state"
)

// operatorAPI serves OperatorService.
type operatorAPI struct{ m *Master }

// ServerStatus implements masterapiconnect.OperatorServiceHandler.
func (a *operatorAPI) ServerStatus(context.Context, *masterapi.ServerStatusRequest) (*masterapi.ServerStatusResponse, error) {
	return a.m.status()
}

func (m *Master) status() (*masterapi.ServerStatusResponse, error) {
	r := &masterapi.ServerStatusResponse{ServerId: m.cfg.ID, Address: m.Address(), Version: m.cfg.Version, Role: "starting"}
	node := m.running()
	if node == nil {
		r.NotReadyReason = "starting"
		return r, nil
	}
	stats := node.Raft().Stats()
	number := func(key string) uint64 {
		n, err := strconv.ParseUint(stats[key], 10, 64)
		if err != nil {
			return 0 // not a number before the first election
		}
		return n
	}
	r.Role = wordOf(node.Raft().State())
	r.LeaderAddress, r.LeaderId = node.Leader()
	r.Term, r.LastTerm, r.LastIndex, r.AppliedIndex = number("term"), number("last_log_term"), number("last_log_index"), node.State().Applied()
	if contact := node.Raft().LastContact(); !contact.IsZero() && r.Role != "leader" {
		r.LastContactMs = uint32(min(time.Since(contact), time.Hour).Milliseconds())
	}
	configured, err := node.Configured()
	if err != nil {
		return nil, apiError(fmt.Errorf("look for a configuration: %w", err))
	}
	r.Configured = configured
	if err := m.Ready(); err != nil {
		r.NotReadyReason = err.Error()
	} else {
		r.Ready = true
	}
	return r, nil
}

func wordOf(s raft.RaftState) string {
	switch s {
	case raft.Leader:
		return "leader"
	case raft.Candidate:
		return "candidate"
	case raft.Follower:
		return "follower"
	default:
		return "stopped"
	}
}

// ListPeers implements masterapiconnect.OperatorServiceHandler.
func (a *operatorAPI) ListPeers(context.Context, *masterapi.ListPeersRequest) (*masterapi.ListPeersResponse, error) {
	l, err := a.m.leading()
	if err != nil {
		return nil, apiError(err)
	}
	servers, err := a.m.node.Servers()
	if err != nil {
		return nil, apiError(err)
	}
	r := &masterapi.ListPeersResponse{}
	for _, s := range servers {
		p := &masterapi.Peer{ServerId: string(s.ID), Address: string(s.Address), Voter: s.Suffrage == raft.Voter, Leader: string(s.ID) == a.m.cfg.ID}
		l.m.pilot.describe(p)
		if p.GetLeader() {
			p.Healthy, p.Version, p.LastIndex = true, a.m.cfg.Version, a.m.node.Raft().LastIndex()
		}
		r.Peers = append(r.Peers, p)
	}
	slices.SortFunc(r.Peers, func(a, b *masterapi.Peer) int { return cmp.Compare(a.GetServerId(), b.GetServerId()) })
	return r, nil
}

// RemovePeer implements masterapiconnect.OperatorServiceHandler.
func (a *operatorAPI) RemovePeer(ctx context.Context, r *masterapi.RemovePeerRequest) (*masterapi.RemovePeerResponse, error) {
	l, err := a.m.leading()
	if err != nil {
		return nil, apiError(err)
	}
	servers, err := a.m.node.Servers()
	if err != nil {
		return nil, apiError(err)
	}
	if !slices.ContainsFunc(servers, func(s raft.Server) bool { return string(s.ID) == r.GetServerId() }) {
		return nil, apiError(masterapi.Refuse(masterapi.Reason_REASON_INVALID_REQUEST, "there is no server %q in the cluster", short(r.GetServerId())))
	}
	if r.GetServerId() == a.m.cfg.ID {
		return nil, apiError(masterapi.Refuse(masterapi.Reason_REASON_TRANSITION_REFUSED, "server %s leads: transfer the leadership first", a.m.cfg.ID))
	}
	if err := a.m.node.Raft().RemoveServer(raft.ServerID(r.GetServerId()), 0, 10*time.Second).Error(); err != nil {
		return nil, apiError(fmt.Errorf("remove server %s: %w", r.GetServerId(), err))
	}
	_, err = l.propose(ctx, &state.Note{Actor: actorOf(ctx), Action: "server remove", Subject: r.GetServerId()})
	return &masterapi.RemovePeerResponse{}, apiError(err)
}

// Join implements masterapiconnect.OperatorServiceHandler. Autopilot makes the new server a voter when it is stable.
func (a *operatorAPI) Join(ctx context.Context, r *masterapi.JoinRequest) (*masterapi.JoinResponse, error) {
	l, err := a.m.leading()
	if err != nil {
		return nil, apiError(err)
	}
	if a.m.cfg.alone() {
		return nil, apiError(masterapi.Refuse(masterapi.Reason_REASON_TRANSITION_REFUSED, "server %s is alone: start it again with bootstrap_expect = 3 first", a.m.cfg.ID))
	}
	if err := masterapi.CheckID("server_id", r.GetServerId()); err != nil {
		return nil, apiError(err)
	}
	if !routable(r.GetAddress()) {
		return nil, apiError(masterapi.Refuse(masterapi.Reason_REASON_INVALID_REQUEST, "address %q", short(r.GetAddress())))
	}
	servers, err := a.m.node.Servers()
	if err != nil {
		return nil, apiError(err)
	}
	known := slices.ContainsFunc(servers, func(s raft.Server) bool {
		return string(s.ID) == r.GetServerId() && string(s.Address) == r.GetAddress()
	})
	if known {
		return &masterapi.JoinResponse{}, nil
	}
	if err := a.m.node.Raft().AddNonvoter(raft.ServerID(r.GetServerId()), raft.ServerAddress(r.GetAddress()), 0, 10*time.Second).Error(); err != nil {
		return nil, apiError(fmt.Errorf("add server %s: %w", r.GetServerId(), err))
	}
	_, err = l.propose(ctx, &state.Note{Actor: actorOf(ctx), Action: "server join", Subject: r.GetServerId(), Detail: r.GetAddress()})
	return &masterapi.JoinResponse{}, apiError(err)
}

// SaveSnapshot implements masterapiconnect.OperatorServiceHandler.
func (a *operatorAPI) SaveSnapshot(_ context.Context, _ *masterapi.SaveSnapshotRequest, stream *connect.ServerStream[masterapi.SnapshotChunk]) error {
	if _, err := a.m.streamLeader(); err != nil {
		return err
	}
	if err := a.m.node.Barrier(10 * time.Second); err != nil {
		return apiError(err)
	}
	meta, r, err := a.m.node.Save()
	if err != nil {
		return apiError(err)
	}
	defer func() { _ = r.Close() }() // only read
	line, err := archive.Header{Index: meta.Index, Term: meta.Term, Size: meta.Size, Time: a.m.cfg.Now().UTC(), Server: a.m.cfg.ID, Version: a.m.cfg.Version}.Line()
	if err != nil {
		return apiError(err)
	}
	if err := stream.Send(&masterapi.SnapshotChunk{Data: line}); err != nil {
		return apiError(err)
	}
	buffer := make([]byte, masterapi.MaxSnapshotChunk)
	for {
		n, err := io.ReadFull(r, buffer)
		if n > 0 {
			if err := stream.Send(&masterapi.SnapshotChunk{Data: buffer[:n]}); err != nil {
				return apiError(err)
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return apiError(fmt.Errorf("read snapshot: %w", err))
		}
	}
}

// RestoreSnapshot implements masterapiconnect.OperatorServiceHandler. The archive is read and verified whole before anything changes.
func (a *operatorAPI) RestoreSnapshot(ctx context.Context, stream *connect.ClientStream[masterapi.SnapshotChunk]) (*masterapi.RestoreSnapshotResponse, error) {
	if _, err := a.m.streamLeader(); err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(a.m.cfg.DataDir, "restore-*")
	if err != nil {
		return nil, apiError(fmt.Errorf("receive snapshot: %w", err))
	}
	defer func() {
		_ = file.Close()
		_ = os.Remove(file.Name())
	}()
	if err := receive(stream, file); err != nil {
		return nil, apiError(err)
	}
	meta, body, err := verified(file)
	if err != nil {
		return nil, apiError(masterapi.Refuse(masterapi.Reason_REASON_INVALID_REQUEST, "%v", err))
	}
	if err := a.m.node.Restore(meta, body, restoreTimeout); err != nil {
		return nil, apiError(err)
	}
	a.m.log.Warn("state restored from a snapshot", "index", meta.Index, "actor", actorOf(ctx))
	if _, err := a.m.node.Propose(ctx, &state.Note{Actor: actorOf(ctx), Action: "snapshot restore", Subject: strconv.FormatUint(meta.Index, 10)}); err != nil {
		return nil, apiError(err)
	}
	return &masterapi.RestoreSnapshotResponse{Index: a.m.node.State().Applied()}, nil
}

func receive(stream *connect.ClientStream[masterapi.SnapshotChunk], w io.Writer) error {
	total := 0
	for stream.Receive() {
		if total += len(stream.Msg().GetData()); total > maxArchive {
			return masterapi.Refuse(masterapi.Reason_REASON_INVALID_REQUEST, "snapshot is larger than %d bytes", maxArchive)
		}
		if _, err := w.Write(stream.Msg().GetData()); err != nil {
			return fmt.Errorf("receive snapshot: %w", err)
		}
	}
	return stream.Err()
}

// verified reads the archive once to the end and returns it again from the start of the state.
func verified(file *os.File) (*raft.SnapshotMeta, *bufio.Reader, error) {
	header, body, err := openArchive(file)
	if err != nil {
		return nil, nil, err
	}
	counted := &counter{r: body}
	if _, err := state.Read(counted); err != nil {
		return nil, nil, err
	}
	if _, err := io.Copy(io.Discard, counted); err != nil {
		return nil, nil, err
	}
	if counted.n != header.Size {
		return nil, nil, fmt.Errorf("snapshot has %d bytes, its header says %d", counted.n, header.Size)
	}
	if header, body, err = openArchive(file); err != nil {
		return nil, nil, err
	}
	return &raft.SnapshotMeta{Version: raft.SnapshotVersionMax, Index: header.Index, Term: header.Term, Size: header.Size}, body, nil
}

func openArchive(file *os.File) (archive.Header, *bufio.Reader, error) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return archive.Header{}, nil, err
	}
	return archive.Open(file)
}

type counter struct {
	r io.Reader
	n int64
}

// Read implements io.Reader.
func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}

// ListAudit implements masterapiconnect.OperatorServiceHandler.
func (a *operatorAPI) ListAudit(_ context.Context, r *masterapi.ListAuditRequest) (*masterapi.ListAuditResponse, error) {
	if _, err := a.m.leading(); err != nil {
		return nil, apiError(err)
	}
	limit := int(r.GetLimit())
	if limit == 0 {
		limit = 100
	}
	response := &masterapi.ListAuditResponse{}
	a.m.read(func(s *state.State) {
		for _, e := range s.Audit(min(limit, masterapi.MaxPage)) {
			response.Entries = append(response.Entries, &masterapi.AuditEntry{
				Time: stamp(e.Time), Actor: e.Actor, Action: e.Action, Subject: e.Subject, Detail: e.Detail, Index: e.Index,
			})
		}
	})
	return response, nil
}

// TransferLeadership implements masterapiconnect.OperatorServiceHandler.
func (a *operatorAPI) TransferLeadership(context.Context, *masterapi.TransferLeadershipRequest) (*masterapi.TransferLeadershipResponse, error) {
	if _, err := a.m.leading(); err != nil {
		return nil, apiError(err)
	}
	if err := a.m.node.Raft().LeadershipTransfer().Error(); err != nil {
		return nil, apiError(fmt.Errorf("transfer leadership: %w", err))
	}
	_, id := a.m.node.Leader()
	return &masterapi.TransferLeadershipResponse{LeaderId: id}, nil
}
