package wayland

import "sync"

// table maps ids to objects. Ids that we choose count from 1 and are reused once the compositor confirmed their end; in between
// their entries are retired and events for them are dropped.
type table struct {
	mu     sync.Mutex // guards the following
	ours   []entry    // id-1
	unused []uint32
	theirs map[uint32]Object // ids from firstServerID
}

// entry is free without a kind, and retired without an object.
type entry struct {
	kind   *Interface
	object Object
}

// register gives o the next free id.
func (c *Conn) register(o Object, version uint32) uint32 {
	t := &c.table
	t.mu.Lock()
	defer t.mu.Unlock()
	var id uint32
	if n := len(t.unused); n > 0 {
		id, t.unused = t.unused[n-1], t.unused[:n-1]
		t.ours[id-1] = entry{kind: o.describe(), object: o}
	} else {
		t.ours = append(t.ours, entry{kind: o.describe(), object: o})
		id = uint32(len(t.ours))
	}
	*o.base() = object{conn: c, id: id, version: version}
	return id
}

// adopt enters an object that the compositor made. It returns what is wrong with its id, or "".
func (c *Conn) adopt(o Object, id, version uint32) (problem string) {
	t := &c.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if id < firstServerID {
		return "new object outside the compositor's ids"
	}
	if len(t.theirs) >= maxServerObjects {
		return "too many objects"
	}
	*o.base() = object{conn: c, id: id, version: version}
	t.theirs[id] = o
	return ""
}

// retire says that we end the object's life. The entry forgets the object, which the caller may use again, and keeps its kind to know
// the descriptors of late events.
func (c *Conn) retire(id uint32) {
	t := &c.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if id >= firstServerID {
		delete(t.theirs, id)
		return
	}
	if e := t.entry(id); e != nil {
		e.object = nil
	}
}

// free is wl_display.delete_id: the compositor will not mention the id again.
func (c *Conn) free(id uint32) {
	t := &c.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.entry(id); e != nil && e.kind != nil && id != displayID {
		*e = entry{}
		t.unused = append(t.unused, id)
	}
}

// entry is nil for ids that were never ours.
func (t *table) entry(id uint32) *entry {
	if id == 0 || id > uint32(len(t.ours)) {
		return nil
	}
	return &t.ours[id-1]
}

// lookup returns the living object with that id, or nil.
func (c *Conn) lookup(id uint32) Object {
	e, _ := c.find(id)
	return e.object
}

// find returns what is known about id. Nothing at all is no error for the compositor's ids: we may have ended the object while it was
// being mentioned.
func (c *Conn) find(id uint32) (e entry, known bool) {
	t := &c.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if id >= firstServerID {
		if o := t.theirs[id]; o != nil {
			return entry{kind: o.describe(), object: o}, true
		}
		return entry{}, true
	}
	if e := t.entry(id); e != nil && e.kind != nil {
		return *e, true
	}
	return entry{}, false
}
