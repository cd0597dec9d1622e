package state

import (
	"encoding/binary"
	"fmt"
)

// Command is one change. The set is closed: it is the table in kinds.
type Command interface {
	kind() kind
	fields(*codec)
	apply(*State) Result
}

// kind numbers a command in the log for good: numbers are never used again.
type kind uint8

const (
	kindPutRelay kind = iota + 1
	kindSetRelayState
	kindForgetRelay
	kindPutHost
	kindSetHostState
	kindForgetHost
	kindIssueLease
	kindRenewLease
	kindEndLease
	kindExpireLeases
	kindProgressLease
	kindEndSession
	kindAddKey
	kindRotateKey
	kindRevokeKey
	kindRetireKeys
	kindPutBan
	kindRemoveBan
	kindNote
	kindApproveHost
)

// spec is what is decided about a command when it is added.
type spec struct {
	// version grows when fields are appended; an older version is read with the new fields empty.
	version uint64
	// ignorable says that a server which does not know the command (or its version) may skip it without disagreeing about anything that matters.
	ignorable bool
	make      func() Command
}

var kinds = map[kind]spec{
	kindPutRelay:      {1, false, func() Command { return new(PutRelay) }},
	kindSetRelayState: {1, false, func() Command { return new(SetRelayState) }},
	kindForgetRelay:   {1, false, func() Command { return new(ForgetRelay) }},
	kindPutHost:       {1, false, func() Command { return new(PutHost) }},
	kindSetHostState:  {1, false, func() Command { return new(SetHostState) }},
	kindForgetHost:    {1, false, func() Command { return new(ForgetHost) }},
	kindIssueLease:    {1, false, func() Command { return new(IssueLease) }},
	kindRenewLease:    {1, false, func() Command { return new(RenewLease) }},
	kindEndLease:      {1, false, func() Command { return new(EndLease) }},
	kindExpireLeases:  {1, false, func() Command { return new(ExpireLeases) }},
	kindProgressLease: {1, false, func() Command { return new(ProgressLease) }},
	kindEndSession:    {1, false, func() Command { return new(EndSession) }},
	kindAddKey:        {1, false, func() Command { return new(AddKey) }},
	kindRotateKey:     {1, false, func() Command { return new(RotateKey) }},
	kindRevokeKey:     {1, false, func() Command { return new(RevokeKey) }},
	kindRetireKeys:    {1, false, func() Command { return new(RetireKeys) }},
	kindPutBan:        {1, false, func() Command { return new(PutBan) }},
	kindRemoveBan:     {1, false, func() Command { return new(RemoveBan) }},
	kindNote:          {1, true, func() Command { return new(Note) }},
	kindApproveHost:   {1, false, func() Command { return new(ApproveHost) }},
}

// entryVersion is the layout of a log entry:
//
//	version 1 byte | now uvarint | number of commands uvarint | per command: kind, version, flags, length uvarint each | fields
const entryVersion = 1

const flagIgnorable = 1

// AppendEntry appends the log entry that carries the commands, proposed at now.
func AppendEntry(out []byte, now Millis, commands ...Command) []byte {
	out = append(out, entryVersion)
	out = binary.AppendUvarint(out, uint64(now))
	out = binary.AppendUvarint(out, uint64(len(commands)))
	body := codec{}
	for _, command := range commands {
		s := kinds[command.kind()]
		body.out, body.version = body.out[:0], s.version
		command.fields(&body)
		var flags uint64
		if s.ignorable {
			flags = flagIgnorable
		}
		for _, n := range []uint64{uint64(command.kind()), s.version, flags, uint64(len(body.out))} {
			out = binary.AppendUvarint(out, n)
		}
		out = append(out, body.out...)
	}
	return out
}

// parsed is one command of an entry; command is nil when it may be skipped.
type parsed struct{ command Command }

func parseEntry(data string) (now Millis, commands []parsed, err error) {
	if len(data) == 0 || data[0] != entryVersion {
		return 0, nil, fmt.Errorf("log entry: %w", ErrTooNew)
	}
	c := codec{in: data[1:], reading: true}
	num(&c, &now)
	count := c.uvarint()
	if count > maxBatch {
		c.fail("%d commands", count)
	}
	commands = make([]parsed, 0, min(count, maxBatch))
	for range count {
		command, err := parseCommand(&c)
		if err != nil {
			return 0, nil, err
		}
		commands = append(commands, parsed{command})
	}
	if c.err == nil && len(c.in) > 0 {
		c.fail("%d bytes after the last command", len(c.in))
	}
	return now, commands, c.err
}

func parseCommand(c *codec) (Command, error) {
	k, version, flags, length := c.uvarint(), c.uvarint(), c.uvarint(), c.uvarint()
	if length > uint64(len(c.in)) {
		c.fail("command of %d bytes, %d left", length, len(c.in))
	}
	if c.err != nil {
		return nil, c.err
	}
	body := codec{in: c.in[:length], reading: true, version: version}
	c.in = c.in[length:]
	s, known := kinds[kind(k)]
	if k > 255 || !known || version > s.version {
		if flags&flagIgnorable != 0 {
			return nil, nil
		}
		return nil, fmt.Errorf("command kind %d version %d: %w", k, version, ErrTooNew)
	}
	command := s.make()
	command.fields(&body)
	if body.err == nil && len(body.in) > 0 {
		body.fail("%d bytes after the fields of command kind %d", len(body.in), k)
	}
	return command, body.err
}

// Apply carries out one log entry and returns one result per command. An error means that nothing was changed and that this server cannot go on: the
// entry is corrupt or of a newer version. index is the entry's place in the log.
func (s *State) Apply(index uint64, data []byte) ([]Result, error) {
	now, commands, err := parseEntry(string(data))
	if err != nil {
		return nil, fmt.Errorf("apply entry %d: %w", index, err)
	}
	s.now, s.index = max(s.now, now), index
	s.forget()
	results := make([]Result, len(commands))
	for i, p := range commands {
		if p.command == nil {
			results[i] = Result{Skipped: true}
			continue
		}
		results[i] = p.command.apply(s)
	}
	return results, nil
}
