package encode

// setBitrate takes bits per second at the current rate limit.
func (r *run) setBitrate(bps uint32) error {
	r.bps = bps
	return r.applyRate()
}

// setFramerate changes the limit. An encoder counts bits per picture at its nominal rate, so at a lower limit it is told more;
// only a rate above the nominal one needs a new pipeline, and so a keyframe.
func (r *run) setFramerate(fps float64) error {
	r.fps = fps
	r.plan.pace.set(fps)
	if r.encoder != nil && fps > r.encoder.in.FPS {
		r.plan.key = true // of the new pipeline, which ready makes
		return nil
	}
	return r.applyRate()
}

func (r *run) applyRate() error {
	if r.encoder == nil {
		return nil
	}
	return r.encoder.setRate(scaledRate(r.bps, r.encoder.in.FPS, r.fps))
}

// scaledRate is the rate to tell an encoder that assumes nominal pictures per second when fps come.
func scaledRate(bps uint32, nominal, fps float64) uint32 {
	scaled := float64(bps) * nominal / fps
	return uint32(min(max(scaled, MinBitrate), MaxBitrate))
}
