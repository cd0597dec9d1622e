package state

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"unsafe"
)

// A snapshot is
//
//	"WAVRYSNP" | version uint32 | blocks ... | end block
//	block: table 1 byte | length uint32 | CRC-32C uint32 | length bytes of records
//
// little endian. Records do not cross blocks; tables come in the order of their numbers, records sorted by id. The end block has table 0 and
// no bytes.
const (
	snapshotMagic = "WAVRYSNP"
	// SnapshotVersion is the version written; every version from 1 on can be read. Files of each are in testdata.
	SnapshotVersion = 1
)

type table uint8

const (
	tableEnd table = iota
	tableMeta
	tableRelays
	tableHosts
	tableKeys
	tableBans
	tableAudit
	tableSessions
	tableLeases
	tableEnded
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Snapshot is the state at one moment. Taking it copies only references; Write may run while the state goes on.
type Snapshot struct {
	meta     meta
	relays   []*Relay
	hosts    []*Host
	keys     []*Key
	bans     []*Ban
	audit    []AuditEntry
	sessions []*Session
	leases   []*Lease
	ended    []string
}

// meta comes first in a snapshot. The counts only let a reader allocate its tables at once.
type meta struct {
	now              Millis
	keySet           uint64
	index            uint64
	sessions, leases uint64
}

func (m *meta) fields(c *codec) {
	num(c, &m.now)
	num(c, &m.keySet)
	num(c, &m.index)
	num(c, &m.sessions)
	num(c, &m.leases)
}

// Snapshot returns the state as it is now.
func (s *State) Snapshot() *Snapshot {
	return &Snapshot{
		meta:   meta{now: s.now, keySet: s.keySet, index: s.index, sessions: uint64(len(s.sessions)), leases: uint64(len(s.leases))},
		relays: values(s.relays), hosts: values(s.hosts), keys: slices.Clone(s.keys), bans: values(s.bans),
		audit: slices.Clone(s.audit), sessions: values(s.sessions), leases: values(s.leases), ended: slices.Clone(s.ended),
	}
}

func values[K comparable, V any](m map[K]V) []V {
	list := make([]V, 0, len(m))
	for _, v := range m {
		list = append(list, v)
	}
	return list
}

func sortLeases(leases []*Lease) {
	slices.SortFunc(leases, func(a, b *Lease) int { return cmp.Compare(a.ID, b.ID) })
}

// Write writes the snapshot. The same state gives the same bytes. It may be called once.
func (s *Snapshot) Write(w io.Writer) error {
	slices.SortFunc(s.relays, func(a, b *Relay) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(s.hosts, func(a, b *Host) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(s.bans, compareBans)
	slices.SortFunc(s.sessions, func(a, b *Session) int { return cmp.Compare(a.ID, b.ID) })
	sortLeases(s.leases)

	out := &blockWriter{w: bufio.NewWriterSize(w, 1<<16)}
	out.c.version = SnapshotVersion
	out.header()
	s.meta.fields(&out.c)
	out.flush(tableMeta)
	writeTable(out, tableRelays, s.relays, func(c *codec, v *Relay) { v.fields(c) })
	writeTable(out, tableHosts, s.hosts, func(c *codec, v *Host) { v.fields(c) })
	writeTable(out, tableKeys, s.keys, func(c *codec, v *Key) { v.fields(c) })
	writeTable(out, tableBans, s.bans, func(c *codec, v *Ban) { v.fields(c) })
	for i := range s.audit {
		s.audit[i].fields(&out.c)
		out.room(tableAudit)
	}
	out.flush(tableAudit)
	writeTable(out, tableSessions, s.sessions, func(c *codec, v *Session) { v.fields(c) })
	writeTable(out, tableLeases, s.leases, func(c *codec, v *Lease) { v.fields(c) })
	for i := range s.ended {
		out.c.str(&s.ended[i])
		out.room(tableEnded)
	}
	out.flush(tableEnded)
	out.block(tableEnd, nil)
	return errors.Join(out.err, out.w.Flush())
}

type blockWriter struct {
	w   *bufio.Writer
	c   codec
	err error
}

func (b *blockWriter) write(data []byte) {
	if b.err == nil {
		_, b.err = b.w.Write(data)
	}
}

func (b *blockWriter) header() {
	b.write(binary.LittleEndian.AppendUint32([]byte(snapshotMagic), SnapshotVersion))
}

func (b *blockWriter) block(t table, data []byte) {
	head := make([]byte, 0, 9)
	head = append(head, byte(t))
	head = binary.LittleEndian.AppendUint32(head, uint32(len(data)))
	head = binary.LittleEndian.AppendUint32(head, crc32.Checksum(data, castagnoli))
	b.write(head)
	b.write(data)
}

// room starts a new block when the present one is full.
func (b *blockWriter) room(t table) {
	if len(b.c.out) >= blockSize {
		b.flush(t)
	}
}

func (b *blockWriter) flush(t table) {
	if len(b.c.out) > 0 {
		b.block(t, b.c.out)
		b.c.out = b.c.out[:0]
	}
}

func writeTable[T any](b *blockWriter, t table, list []*T, fields func(*codec, *T)) {
	for _, v := range list {
		fields(&b.c, v)
		b.room(t)
	}
	b.flush(t)
}

// Read reads a snapshot of any version. An error leaves no half state: the caller keeps what it had.
func Read(r io.Reader) (*State, error) {
	in := bufio.NewReaderSize(r, 1<<16)
	head := make([]byte, len(snapshotMagic)+4)
	if _, err := io.ReadFull(in, head); err != nil {
		return nil, fmt.Errorf("read snapshot header: %w", errors.Join(ErrCorrupt, err))
	}
	if string(head[:len(snapshotMagic)]) != snapshotMagic {
		return nil, fmt.Errorf("read snapshot header: %w: not a snapshot", ErrCorrupt)
	}
	version := binary.LittleEndian.Uint32(head[len(snapshotMagic):])
	if version > SnapshotVersion {
		return nil, fmt.Errorf("snapshot version %d, this program reads up to %d: %w", version, SnapshotVersion, ErrTooNew)
	}
	s := New()
	for {
		t, data, err := readBlock(in)
		if err != nil {
			return nil, err
		}
		if t == tableEnd {
			break
		}
		if err := s.load(t, &codec{in: data, reading: true, version: uint64(version)}); err != nil {
			return nil, fmt.Errorf("read snapshot table %d: %w", t, err)
		}
	}
	return s, s.derive()
}

func readBlock(in io.Reader) (table, string, error) {
	var head [9]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return 0, "", fmt.Errorf("read snapshot block: %w", errors.Join(ErrCorrupt, err))
	}
	length := binary.LittleEndian.Uint32(head[1:])
	if length > maxBlock {
		return 0, "", fmt.Errorf("%w: snapshot block of %d bytes", ErrCorrupt, length)
	}
	data := make([]byte, length)
	if _, err := io.ReadFull(in, data); err != nil {
		return 0, "", fmt.Errorf("read snapshot block: %w", errors.Join(ErrCorrupt, err))
	}
	if crc32.Checksum(data, castagnoli) != binary.LittleEndian.Uint32(head[5:]) {
		return 0, "", fmt.Errorf("%w: checksum of a snapshot block", ErrCorrupt)
	}
	// The records' strings are parts of the block: nobody changes data any more.
	return table(head[0]), unsafe.String(unsafe.SliceData(data), len(data)), nil
}

// load reads one block. Unknown tables cannot be in a version we know.
func (s *State) load(t table, c *codec) error {
	for len(c.in) > 0 && c.err == nil {
		switch t {
		case tableMeta:
			var m meta
			m.fields(c)
			s.now, s.keySet, s.index = m.now, m.keySet, m.index
			s.sessions = make(map[string]*Session, min(m.sessions, maxHint))
			s.leases = make(map[string]*Lease, min(m.leases, maxHint))
		case tableRelays:
			v := new(Relay)
			v.fields(c)
			s.relays[v.ID] = v
		case tableHosts:
			v := new(Host)
			v.fields(c)
			s.hosts[v.ID] = v
		case tableKeys:
			v := new(Key)
			v.fields(c)
			s.keys = append(s.keys, v)
		case tableBans:
			v := new(Ban)
			v.fields(c)
			s.bans[banKey{v.Kind, v.Subject}] = v
		case tableAudit:
			var v AuditEntry
			v.fields(c)
			s.audit = append(s.audit, v)
		case tableSessions:
			v := new(Session)
			v.fields(c)
			s.sessions[v.ID] = v
		case tableLeases:
			v := new(Lease)
			v.fields(c)
			s.leases[v.ID] = v
		case tableEnded:
			var id string
			c.str(&id)
			s.ended = append(s.ended, id)
		default:
			return fmt.Errorf("%w: unknown table", ErrCorrupt)
		}
	}
	return c.err
}

// derive rebuilds what snapshots leave out.
func (s *State) derive() error {
	for _, l := range s.leases {
		if s.sessions[l.Session] == nil {
			return fmt.Errorf("%w: lease %s has no session", ErrCorrupt, l.ID)
		}
		s.share(l)
		if l.Live() {
			s.addLive(l)
		}
	}
	for _, session := range s.sessions {
		for _, id := range session.Leases {
			if s.leases[id] == nil {
				return fmt.Errorf("%w: lease %s of session %s is missing", ErrCorrupt, id, session.ID)
			}
		}
		if session.Live() {
			s.onHost[session.Host] = append(s.onHost[session.Host], session.ID)
		}
	}
	for _, id := range s.ended {
		if s.leases[id] == nil {
			return fmt.Errorf("%w: ended lease %s is missing", ErrCorrupt, id)
		}
	}
	return nil
}

// share lets a lease use the strings of the tables, as put does.
func (s *State) share(l *Lease) {
	if h := s.hosts[l.Host]; h != nil {
		l.Host = h.ID
		if l.Region == h.Region {
			l.Region = h.Region
		}
	}
	if r := s.relays[l.Relay]; r != nil {
		l.Relay = r.ID
	}
}
