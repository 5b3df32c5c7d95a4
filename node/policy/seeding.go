package policy

import (
	"slices"
	"time"

	"swarmnode/content"
)

// repeatAfter is how long a chunk that was given away is not given again while others have not been given at all: time
// for the one who has it to pass it on.
const repeatAfter = 60 * time.Second

// Seeding is how a publisher serves a new release: nothing twice before everything once, so that its uplink, the
// scarce one, carries each chunk to the swarm about one time (super-seeding). A chunk held back is answered "not here";
// when that is over the driver says again what is here ([Seeding.Again]), and peers believe it. It pays from about three peers
// on; with fewer there is nobody to pass a chunk on, and the driver does without.
type Seeding struct {
	segments map[uint32]*seeded
	order    []uint32 // as added
	left     int      // chunks never given
	turn     time.Time
	again    content.Bitmap
}

// seeded is one segment: what was never given, and what was given lately, in this turn and the one before.
type seeded struct {
	fresh   content.Bitmap
	current content.Bitmap
	before  content.Bitmap
}

// NewSeeding makes a Seeding without segments, which holds nothing back.
func NewSeeding() *Seeding { return &Seeding{segments: map[uint32]*seeded{}} }

// Add says that these chunks of a segment are new to everybody.
func (s *Seeding) Add(seg uint32, chunks content.Bitmap) {
	if s.segments[seg] != nil || len(chunks) == 0 {
		return
	}
	s.segments[seg] = &seeded{fresh: chunks.Clone()}
	s.order = append(s.order, seg)
	s.left += chunks.Count()
}

// Give reports whether a chunk may be sent now, and if so counts it as given.
func (s *Seeding) Give(now time.Time, ref content.Ref) bool {
	g := s.segments[ref.Segment]
	if g == nil {
		return true
	}
	s.tick(now)
	if g.fresh.Has(ref.Index) {
		g.fresh.Clear(ref.Index)
		g.current.Set(ref.Index)
		if s.left--; s.left == 0 {
			s.finish()
		}
		return true
	}
	if g.current.Has(ref.Index) || g.before.Has(ref.Index) {
		return false
	}
	g.current.Set(ref.Index)
	return true
}

// Return takes back a Give whose chunk did not get through: it is as if it had never been given.
func (s *Seeding) Return(ref content.Ref) {
	g := s.segments[ref.Segment]
	if g == nil || g.fresh.Has(ref.Index) {
		return
	}
	g.current.Clear(ref.Index)
	g.before.Clear(ref.Index)
	g.fresh.Set(ref.Index)
	s.left++
	s.again.Set(ref.Segment)
}

// Active reports whether anything may be held back.
func (s *Seeding) Active() bool { return s.left > 0 }

// Again gives the segments of which chunks were held back and are not any more, once. The driver tells them to the
// neighbours as complete. It is worth asking after each Give and every now and then.
func (s *Seeding) Again(now time.Time) content.Bitmap {
	s.tick(now)
	again := s.again
	s.again = nil
	return again
}

// tick begins a new turn when it is time.
func (s *Seeding) tick(now time.Time) {
	if s.left == 0 || now.Sub(s.turn) < repeatAfter {
		return
	}
	for _, seg := range s.order {
		g := s.segments[seg]
		if len(g.before) > 0 {
			s.again.Set(seg)
		}
		g.before, g.current = g.current, nil
	}
	s.turn = now
}

// finish ends the seeding: everything was given once.
func (s *Seeding) finish() {
	slices.Sort(s.order)
	for _, seg := range s.order {
		s.again.Set(seg)
	}
	s.order = nil
	clear(s.segments)
}
