package encode

import (
	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/internal/encode/bitstream"
)

// finished takes what came out of a pipeline.
func (r *run) finished(res result) error {
	if res.from != r.encoder {
		return nil // of a pipeline that was closed meanwhile
	}
	if res.err != nil {
		return r.pipelineFailed(res.err)
	}
	r.faults.lost, r.faults.pipelines = 0, 0
	f := r.flight
	info := bitstream.Inspect(r.codec, res.unit.Data)
	r.answerKey(f, info)
	if info.Key {
		res.unit.Data = r.withParams(info, res.unit.Data)
	}
	r.deliverUnit(f, info, res)
	if r.look.due(res.at) {
		r.look.see(&f.frame.Picture, res.at)
	}
	r.land()
	r.settle()
	return nil
}

// answerKey notes whether a keyframe that was asked for came.
func (r *run) answerKey(f flight, info bitstream.Info) {
	switch {
	case info.Key:
		r.plan.key, r.faults.keys = false, 0
	case f.key:
		r.faults.keys++
		if r.faults.keys >= maxMissedKeys {
			r.log.Warn("encoder ignores requests for a keyframe, building another pipeline", "backend", r.method.Name)
			r.faults.keys = 0
			defer r.closeEncoder()
		}
	}
}

// withParams puts the parameter sets before a keyframe that lacks them, and makes them promise that nothing is reordered.
func (r *run) withParams(info bitstream.Info, data []byte) []byte {
	if r.codec == media.CodecH264 {
		data = bitstream.RestrictReorder(data)
	}
	if info.Params {
		r.params = bitstream.AppendParams(r.params[:0], r.codec, data)
		return data
	}
	return append(append(make([]byte, 0, len(r.params)+len(data)), r.params...), data...)
}

// deliverUnit makes the unit the one that waits to be taken.
func (r *run) deliverUnit(f flight, info bitstream.Info, res result) {
	if !info.Picture || (r.needKey && !info.Key) {
		r.stats.dropped++
		r.plan.key = r.plan.key || r.needKey
		return
	}
	r.needKey = false
	l := res.from.in.Layout
	box := &unitEvent{}
	box.unit = pluginpb.AccessUnit{
		Sequence: r.next, Codec: uint32(r.codec), Keyframe: info.Key, Repeat: f.repeat,
		Width: uint32(l.Width), Height: uint32(l.Height),
		CaptureTime: int64(f.frame.Capture), HandoffTime: int64(f.frame.Handoff), EncodeTime: int64(res.at),
		Data: res.unit.Data,
	}
	box.one.Unit = &box.unit
	box.event.Event = &box.one
	r.next++
	r.unit = &box.event
}

// unitEvent is an event with its unit in one allocation.
type unitEvent struct {
	event pluginpb.EncodeEvent
	one   pluginpb.EncodeEvent_Unit
	unit  pluginpb.AccessUnit
}
