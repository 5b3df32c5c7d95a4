package node

import (
	"context"
	"sync"
	"time"

	"swarmnode/content"
	"swarmnode/gossip"
	"swarmnode/node/policy"
)

const (
	// seedAudience is how many peers have to follow a collection for super-seeding to pay: with fewer there is nobody to pass a
	// chunk on.
	seedAudience = 3
	// seedTick is how often held-back chunks are looked at that may be given again; their time is a minute.
	seedTick = 5 * time.Second
	// seedRepeats is how often a follower is told again of what is to be had again, after one seedTick, two, four and so on, ten
	// minutes in all. An answer that is under way when it is told first still ends with "not here" for what was held back when it
	// was asked for, and who hears that later believes it: with nobody else to ask it would wait for ever.
	seedRepeats = 7
)

// seeder gives the chunks of a publisher's newest release away: nothing twice before everything once, while enough peers
// follow the collection. It decides by policy.Seeding and has the followers told what is to be had again.
type seeder struct {
	mu       sync.Mutex // guards all below
	seeding  *policy.Seeding
	segments content.Bitmap // that seeding knows
	below    uint32         // segments of the releases so far
	begun    bool           // the segments of the next release are new: those that were there at the start are known
	follows  map[*follow]struct{}
}

// follow is one peer that is told what the publisher has.
type follow struct {
	again content.Bitmap // to be told
	told  repeats        // owned by the goroutine that tells it, not by mu
	poke  chan struct{}  // capacity 1
}

func newSeeder() *seeder {
	return &seeder{seeding: policy.NewSeeding(), follows: map[*follow]struct{}{}}
}

// release says that a release is out; of its segments those past the ones of the last are new.
func (s *seeder) release(infos []content.SegmentInfo) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.begun {
		for n := s.below; int(n) < len(infos); n++ {
			if chunks := infos[n].Live(); len(chunks) > 0 {
				s.seeding.Add(n, chunks)
				s.segments.Set(n)
			}
		}
	}
	s.begun = true
	s.below = max(s.below, uint32(len(infos)))
}

// active reports whether anything may be held back.
func (s *seeder) active() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seeding.Active()
}

// give reports whether a chunk may be sent now.
func (s *seeder) give(ref content.Ref) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.seeding.Active() {
		return true
	}
	now := time.Now()
	ok := s.seeding.Give(now, ref)
	s.tell(s.seeding.Again(now))
	return ok || len(s.follows) < seedAudience
}

// back says that a chunk that was given could not be read or did not get through: the followers are told of it again.
func (s *seeder) back(ref content.Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seeding.Return(ref)
	s.tell(s.seeding.Again(time.Now()))
}

// tell has the followers told that these segments are here. The caller holds mu.
func (s *seeder) tell(again content.Bitmap) {
	if len(again) == 0 {
		return
	}
	for f := range s.follows {
		f.again.Or(again)
		select {
		case f.poke <- struct{}{}:
		default:
		}
	}
}

// watch passes on what a follower is told and adds what is to be had again.
func (s *seeder) watch(ctx context.Context, in <-chan gossip.Holdings) <-chan gossip.Holdings {
	f := &follow{poke: make(chan struct{}, 1)}
	s.mu.Lock()
	s.follows[f] = struct{}{}
	s.mu.Unlock()
	out := make(chan gossip.Holdings)
	go func() {
		defer close(out)
		defer s.unfollow(f)
		ticker := time.NewTicker(seedTick)
		defer ticker.Stop()
		for {
			var h gossip.Holdings
			var ok bool
			select {
			case h, ok = <-in:
				if !ok {
					return
				}
			case <-ticker.C:
				s.tick()
				if h.Segments = f.told.tick(); h.Segments == nil {
					continue
				}
			case <-f.poke:
				h.Segments = s.take(f)
				f.told.add(h.Segments)
			}
			select {
			case out <- h:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// repeats is what a follower was told, to be told again. The goroutine of the follower owns it.
type repeats struct {
	segments content.Bitmap
	ticks    int // since the last time
	done     int // times
}

// add begins anew with these segments beside those that are still to be repeated.
func (r *repeats) add(segments content.Bitmap) {
	r.segments.Or(segments)
	r.ticks, r.done = 0, 0
}

// tick counts a seedTick and gives what to tell now, or nil.
func (r *repeats) tick() content.Bitmap {
	if r.segments == nil {
		return nil
	}
	if r.ticks++; r.ticks < 1<<r.done {
		return nil
	}
	again := r.segments.Clone()
	r.ticks = 0
	if r.done++; r.done == seedRepeats {
		r.segments = nil
	}
	return again
}

// tick looks whether the time of what was held back is over.
func (s *seeder) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tell(s.seeding.Again(time.Now()))
}

func (s *seeder) take(f *follow) content.Bitmap {
	s.mu.Lock()
	defer s.mu.Unlock()
	again := f.again
	f.again = nil
	return again
}

// unfollow ends a follow. With too few left everything is to be had again.
func (s *seeder) unfollow(f *follow) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.follows, f)
	if len(s.follows) == seedAudience-1 && s.seeding.Active() {
		s.seeding = policy.NewSeeding()
		s.tell(s.segments)
		s.segments = nil
	}
}
