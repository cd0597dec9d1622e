package pipeline

import (
	"errors"
	"fmt"
	"time"

	"github.com/wavry/fleet/hostruntime/media"
)

// role names one of the two plugins.
type role uint8

const (
	roleCapture role = 0
	roleEncoder role = 1
)

func (r role) String() string { return [...]string{"capture", "encoder"}[r] }

// action is what the supervisor wants done, in order.
type action struct {
	kind      actionKind
	role      role
	candidate int           // start: which one
	run       uint64        // start and stop: number of the run
	delay     time.Duration // start: wait first
	cause     cause         // recover: why
	err       error         // recover: why; giveUp: the end
}

type actionKind uint8

const (
	actStart   actionKind = iota // launch a candidate
	actStop                      // end a run
	actRecover                   // tell the viewer that pictures stop for a moment
	actLive                      // tell the viewer that they are there
	actGiveUp                    // end the pipeline
)

// supervisor decides. It is told everything with its time and holds no clock, process or goroutine.
type supervisor struct {
	slots [2]slot
	runs  uint64 // numbers given so far

	live      bool
	everLive  bool
	liveSince media.Time
	lastUnit  media.Time
	bothSince media.Time // both started; 0: not both
	view      view
	givenUp   bool
}

// slot is one role.
type slot struct {
	names     []string
	last      []*CandidateError // by candidate; nil: did not fail
	candidate int
	run       uint64
	started   bool
	deadline  media.Time // of the start
	life      media.Time // last sign
	failures  int        // of the candidate in a row
	attempts  int        // failures of the role since it was healthy
	rounds    int        // over all candidates since it was healthy
}

// view is what the encoder saw, to tell bad pictures from quiet ones.
type view struct {
	hash       uint64
	black      bool
	same       media.Time // since when hash and black are what they are
	frames     uint64     // that the encoder took, ever
	sameFrames uint64     // frames when same began
	units      uint64
	stuck      media.Time // since when frames went in and nothing came out; 0: not
	inputs     int        // since same
	suspicions int        // in a row
}

func newSupervisor(captures, encoders []string) *supervisor {
	return &supervisor{slots: [2]slot{
		{names: captures, last: make([]*CandidateError, len(captures))},
		{names: encoders, last: make([]*CandidateError, len(encoders))},
	}}
}

// begin starts the first candidates.
func (s *supervisor) begin(now media.Time) []action {
	return []action{s.start(roleCapture, now, 0), s.start(roleEncoder, now, 0)}
}

// start gives the role's present candidate a new run.
func (s *supervisor) start(r role, now media.Time, delay time.Duration) action {
	sl := &s.slots[r]
	s.runs++
	sl.run, sl.started, sl.deadline = s.runs, false, now.Add(delay+startTimeout)
	s.bothSince = 0
	return action{kind: actStart, role: r, candidate: sl.candidate, run: sl.run, delay: delay}
}

// current reports whether run is the role's present one: what older runs say does not count.
func (s *supervisor) current(r role, run uint64) bool { return s.slots[r].run == run && !s.givenUp }

// started is told when a plugin's Start returned.
func (s *supervisor) started(r role, run uint64, now media.Time) {
	if !s.current(r, run) {
		return
	}
	sl := &s.slots[r]
	sl.started, sl.life = true, now
	if r == roleCapture { // the encoder's time begins now: it could not start before
		s.slots[roleEncoder].deadline = max(s.slots[roleEncoder].deadline, now.Add(startTimeout))
	}
	if s.slots[roleCapture].started && s.slots[roleEncoder].started {
		s.bothSince = now
		s.view = view{suspicions: s.view.suspicions, same: now, black: s.view.black, hash: s.view.hash}
	}
}

// beat is told of a heartbeat.
func (s *supervisor) beat(r role, run uint64, now media.Time) {
	if s.current(r, run) {
		s.slots[r].life = now
	}
}

// unit is told of a unit that went out to the viewer. A new picture is a sign of life of the capture too.
func (s *supervisor) unit(run uint64, now media.Time, repeat bool) []action {
	if !s.current(roleEncoder, run) {
		return nil
	}
	s.slots[roleEncoder].life, s.lastUnit, s.view.stuck = now, now, 0
	if !repeat {
		s.slots[roleCapture].life = now
	}
	if s.live {
		return nil
	}
	s.live, s.everLive, s.liveSince = true, true, now
	return []action{{kind: actLive}}
}

// look is told what an encoder's heartbeat says of the pictures. A zero hash means that it could not look.
func (s *supervisor) look(run uint64, now media.Time, hash uint64, black bool, frames, units uint64) {
	if !s.current(roleEncoder, run) {
		return
	}
	v := &s.view
	if frames > v.frames && units == v.units {
		if v.stuck == 0 {
			v.stuck = now
		}
	} else if units != v.units {
		v.stuck = 0
	}
	if hash != v.hash || black != v.black || hash == 0 {
		if !black && hash != v.hash && v.hash != 0 && hash != 0 {
			v.suspicions = 0 // it moves: all is well
		}
		v.hash, v.black, v.same, v.sameFrames, v.inputs = hash, black, now, frames, 0
	}
	v.frames, v.units = frames, units
}

// input is told of delivered keys, buttons and scrolls.
func (s *supervisor) input(n int) { s.view.inputs += n }

// failed is told that a run is over, or must be.
func (s *supervisor) failed(r role, run uint64, now media.Time, why cause, err error) []action {
	if !s.current(r, run) {
		return nil
	}
	sl := &s.slots[r]
	sl.last[sl.candidate] = &CandidateError{Name: sl.names[sl.candidate], Cause: string(why), Err: err}
	sl.attempts++
	sl.failures++
	ended := r
	if why == causeRefused || sl.failures >= maxFailures {
		if around := s.advance(sl); around && r == roleEncoder && !s.live {
			ended = s.blameCapture(err)
		}
	}
	actions := s.stopFor(ended)
	if s.exhausted(r, now) {
		s.givenUp = true
		return append(actions, action{kind: actGiveUp, err: s.exhaustedError(r)})
	}
	actions = append(actions, action{kind: actRecover, role: r, cause: why, err: err})
	s.live = false
	delay := backoff(sl.attempts)
	if ended == roleCapture {
		actions = append(actions, s.start(roleCapture, now, delay))
	}
	return append(actions, s.start(roleEncoder, now, delay))
}

// stopFor ends what a failure of r ends: an encoder does not outlive its capture, whose source it reads.
func (s *supervisor) stopFor(r role) []action {
	actions := []action{{kind: actStop, role: r, run: s.slots[r].run}}
	if r == roleCapture {
		actions = append(actions, action{kind: actStop, role: roleEncoder, run: s.slots[roleEncoder].run})
	}
	return actions
}

// advance goes to the next candidate and reports whether it is the first again.
func (s *supervisor) advance(sl *slot) (around bool) {
	sl.failures = 0
	sl.candidate++
	if sl.candidate < len(sl.names) {
		return false
	}
	sl.candidate = 0
	sl.rounds++
	return true
}

// blameCapture lets another capture try, or the same one again: no encoder can work with this one, which may send garbage.
func (s *supervisor) blameCapture(err error) role {
	sl := &s.slots[roleCapture]
	if sl.started {
		sl.last[sl.candidate] = &CandidateError{Name: sl.names[sl.candidate], Cause: string(causeFault), Err: fmt.Errorf("no encoder works with it: %w", err)}
		s.advance(sl)
	}
	return roleCapture
}

// exhausted gives every capture its rounds with every encoder.
func (s *supervisor) exhausted(r role, now media.Time) bool {
	rounds := maxRounds
	if r == roleEncoder {
		rounds *= len(s.slots[roleCapture].names)
	}
	return s.slots[r].rounds >= rounds && (!s.everLive || now.Sub(s.lastUnit) >= giveUpAfter)
}

func (s *supervisor) exhaustedError(r role) error {
	e := &ExhaustedError{Role: r.String()}
	for _, c := range s.slots[r].last {
		if c != nil {
			e.Candidates = append(e.Candidates, c)
		}
	}
	return e
}

func backoff(attempt int) time.Duration {
	if attempt <= 1 {
		return 0
	}
	return min(backoffMax, backoffFirst<<min(attempt-2, 10))
}

// tick looks at everything that time alone changes; call it at least when wake says.
func (s *supervisor) tick(now media.Time) []action {
	if s.givenUp {
		return nil
	}
	if s.live && now.Sub(s.liveSince) >= healthyAfter {
		s.forgive()
	}
	for _, r := range []role{roleCapture, roleEncoder} {
		if why, err := s.ill(r, now); err != nil {
			return s.failed(r, s.slots[r].run, now, why, err)
		}
	}
	if r, why, err := s.noPicture(now); err != nil {
		return s.failed(r, s.slots[r].run, now, why, err)
	}
	if why, err := s.badPicture(now); err != nil {
		return s.suspect(now, why, err)
	}
	return nil
}

// forgive forgets failures once all has been well for a while.
func (s *supervisor) forgive() {
	for r := range s.slots {
		s.slots[r].failures, s.slots[r].attempts, s.slots[r].rounds = 0, 0, 0
	}
}

// ill reports a run that does not start or gives no sign of life.
func (s *supervisor) ill(r role, now media.Time) (cause, error) {
	sl := &s.slots[r]
	switch {
	case !sl.started && r == roleEncoder && !s.slots[roleCapture].started:
		return "", nil // waits for its capture, whose own deadline runs
	case !sl.started && now > sl.deadline:
		return causeHang, errors.New("did not start within " + startTimeout.String())
	case sl.started && now.Sub(sl.life) > silentAfter:
		return causeHang, errSilent
	}
	return "", nil
}

// noPicture finds who is to blame when both run and nothing comes out.
func (s *supervisor) noPicture(now media.Time) (role, cause, error) {
	if s.bothSince == 0 {
		return 0, "", nil
	}
	if s.view.stuck != 0 && now.Sub(s.view.stuck) > unitAfter {
		return roleEncoder, causeNoPicture, errors.New("takes pictures and returns nothing")
	}
	if s.live || now.Sub(s.bothSince) <= firstUnitAfter {
		return 0, "", nil
	}
	if s.view.frames == 0 {
		return roleCapture, causeNoPicture, errors.New("delivers no picture")
	}
	return roleEncoder, causeNoPicture, errors.New("delivers no keyframe")
}

// badPicture reports pictures that stay black or the same although somebody types and clicks.
func (s *supervisor) badPicture(now media.Time) (cause, error) {
	v := &s.view
	if !s.live || v.hash == 0 || v.inputs < suspectInputs || v.suspicions >= maxSuspicions {
		return "", nil
	}
	same := now.Sub(v.same)
	switch {
	case v.black && same > blackAfter:
		return causeBlack, errors.New("shows only black although there is input")
	case same > frozenAfter && v.frames >= v.sameFrames+frozenFrames:
		return causeFrozen, errors.New("repeats one picture although there is input")
	}
	return "", nil
}

// suspect ends a capture with bad pictures: first the candidate gets another chance, then it is the next one's turn.
func (s *supervisor) suspect(now media.Time, why cause, err error) []action {
	s.view.suspicions++
	s.view.inputs = 0
	sl := &s.slots[roleCapture]
	sl.failures = maxFailures - 1 - (maxSuspicions - s.view.suspicions)
	return s.failed(roleCapture, sl.run, now, why, err)
}

// wake is when tick should be called next, at the latest.
func (s *supervisor) wake(now media.Time) media.Time {
	at := now.Add(healthyAfter)
	for r := range s.slots {
		if sl := &s.slots[r]; sl.started {
			at = min(at, sl.life.Add(silentAfter+1))
		} else {
			at = min(at, sl.deadline+1)
		}
	}
	if s.bothSince != 0 && !s.live {
		at = min(at, s.bothSince.Add(firstUnitAfter+1))
	}
	if s.view.stuck != 0 {
		at = min(at, s.view.stuck.Add(unitAfter+1))
	}
	if s.live && s.view.inputs >= suspectInputs {
		at = min(at, max(now, s.view.same)+media.Time(blackAfter)) // looks come with heartbeats: no need to be exact
	}
	return max(at, now+media.Time(time.Millisecond))
}
