package state

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Millis is a time in milliseconds since 1970, UTC; 0 means never.
type Millis int64

// At converts a time; the zero time gives 0.
func At(t time.Time) Millis {
	if t.IsZero() {
		return 0
	}
	return Millis(t.UnixMilli())
}

// Time converts back; 0 gives the zero time.
func (m Millis) Time() time.Time {
	if m == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(m)).UTC()
}

// Add returns m later by d.
func (m Millis) Add(d time.Duration) Millis { return m + Millis(d.Milliseconds()) }

// codec writes or reads the fields of a record: each record has one fields method that serves both directions, so they cannot drift apart.
// Integers are uvarints, strings are a length and bytes. When reading, strings are parts of in and are not copied.
type codec struct {
	out     []byte
	in      string
	reading bool
	version uint64 // of the record being read or written
	err     error
}

func (c *codec) fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
	}
	c.in = ""
}

func (c *codec) uvarint() uint64 {
	// Same as binary.Uvarint, for a string.
	var x uint64
	for i := 0; i < len(c.in) && i < binary.MaxVarintLen64; i++ {
		b := c.in[i]
		x |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			c.in = c.in[i+1:]
			return x
		}
	}
	c.fail("number cut short")
	return 0
}

type integer interface {
	~int32 | ~int64 | ~uint8 | ~uint32 | ~uint64
}

func num[T integer](c *codec, v *T) {
	if c.reading {
		*v = T(c.uvarint())
		return
	}
	c.out = binary.AppendUvarint(c.out, uint64(*v))
}

func (c *codec) str(v *string) {
	if !c.reading {
		c.out = binary.AppendUvarint(c.out, uint64(len(*v)))
		c.out = append(c.out, *v...)
		return
	}
	n := c.uvarint()
	if n > uint64(len(c.in)) || n > maxText {
		c.fail("text of %d bytes, %d left", n, len(c.in))
		*v = ""
		return
	}
	*v, c.in = c.in[:n], c.in[n:]
}

func (c *codec) flag(v *bool) {
	var n uint8
	if *v {
		n = 1
	}
	num(c, &n)
	*v = n == 1
}

func list[T any](c *codec, v *[]T, most int, each func(*codec, *T)) {
	n := uint32(len(*v))
	num(c, &n)
	if c.reading {
		if int(n) > most || int(n) > len(c.in) {
			c.fail("list of %d, at most %d", n, most)
			return
		}
		*v = nil
		if n > 0 {
			*v = make([]T, n)
		}
	}
	for i := range *v {
		each(c, &(*v)[i])
	}
}

func texts(c *codec, v *[]string) { list(c, v, maxList, (*codec).str) }
