package encode

import (
	"errors"
	"fmt"
	"time"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/plugins/internal/gstpipe"
)

// decoders that a probe can check with, by codec, best first. A node without any is checked by structure alone.
var decoders = map[media.Codec][]string{
	media.CodecH264: {"avdec_h264", "openh264dec"},
	media.CodecHEVC: {"avdec_h265", "libde265dec"},
	media.CodecAV1:  {"dav1ddec", "av1dec"},
}

var parsers = map[media.Codec]struct{ element, caps string }{
	media.CodecH264: {"h264parse", "video/x-h264, stream-format=(string)byte-stream, alignment=(string)au"},
	media.CodecHEVC: {"h265parse", "video/x-h265, stream-format=(string)byte-stream, alignment=(string)au"},
	media.CodecAV1:  {"av1parse", "video/x-av1, stream-format=(string)obu-stream, alignment=(string)tu"},
}

// decode makes sure that a decoder gets a picture out of every unit.
func (g *measured) decode(codec media.Codec, units [][]byte) error {
	decoder := ""
	for _, d := range decoders[codec] {
		if gstpipe.HasElement(d) && gstpipe.HasElement(parsers[codec].element) {
			decoder = d
			break
		}
	}
	if decoder == "" {
		g.details["decoded_with"] = "nothing: no decoder installed, checked by structure"
		return nil
	}
	g.details["decoded_with"] = decoder
	n, err := countDecoded(codec, decoder, units)
	if err != nil {
		return fmt.Errorf("%s cannot decode it: %w", decoder, err)
	}
	if n != len(units) {
		return fmt.Errorf("%s decodes %d pictures out of %d units", decoder, n, len(units))
	}
	return nil
}

func countDecoded(codec media.Codec, decoder string, units [][]byte) (int, error) {
	p, err := gstpipe.Build("decode", []gstpipe.Element{
		gstpipe.Source(parsers[codec].caps), {Factory: parsers[codec].element}, {Factory: decoder}, gstpipe.Sink(),
	})
	if err != nil {
		return 0, err
	}
	defer p.Close()
	p.Pictures(false)
	if err := p.Start(startTimeout, false); err != nil {
		return 0, err
	}
	n := 0
	for i, u := range units {
		if err := p.PushBytes(u, time.Duration(i)*time.Second/60); err != nil {
			return n, err
		}
	}
	p.End()
	for {
		f, err := p.PullPicture(startTimeout)
		switch {
		case err == nil:
			f.Picture.Release()
			n++
		case errors.Is(err, gstpipe.ErrLayout): // I420 is none of our raw formats, but it is a picture
			n++
		case errors.Is(err, gstpipe.ErrClosed):
			return n, nil
		default:
			return n, err
		}
	}
}
