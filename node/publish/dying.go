package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"swarmnode/content"
)

// dying is a set of chunks by segment.
type dying map[uint32]*content.Bitmap

func (s dying) add(runs []content.Run) {
	for _, r := range runs {
		if s[r.Segment] == nil {
			s[r.Segment] = new(content.Bitmap)
		}
		for i := r.First; i < r.First+r.Count; i++ {
			s[r.Segment].Set(i)
		}
	}
}

// remove reports whether any of the chunks was in the set.
func (s dying) remove(runs []content.Run) (any bool) {
	for _, r := range runs {
		b := s[r.Segment]
		if b == nil {
			continue
		}
		for i := r.First; i < r.First+r.Count; i++ {
			any = any || b.Has(i)
			b.Clear(i)
		}
		if len(*b) == 0 {
			delete(s, r.Segment)
		}
	}
	return any
}

// runs gives the set in order.
func (s dying) runs() []content.Run {
	numbers := make([]uint32, 0, len(s))
	for n := range s {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	var runs []content.Run
	for _, n := range numbers {
		for i := range uint32(8 * len(*s[n])) {
			if s[n].Has(i) {
				runs = content.AppendRef(runs, content.Ref{Segment: n, Index: i})
			}
		}
	}
	return runs
}

// errSpared ends a walk early.
var errSpared = errors.New("nothing is left to spare")

// spare takes out of the dying what the entries of the new tree use. An unchanged file that shares a chunk with a file that is
// gone is from now on where its bytes are. The walk ends as soon as nothing is left to spare.
func (pl *placer) spare(ctx context.Context, tree content.Digest, upserts []content.Entry) error {
	pack := pl.p.cfg.Pack
	changed := make(map[string]struct{}, len(upserts))
	for _, e := range upserts {
		runs, err := content.EntryRuns(e, pack)
		if err != nil {
			return err
		}
		pl.dying.remove(runs) // its places are known: it was placed just now
		changed[e.Path] = struct{}{}
	}
	if len(pl.dying) == 0 {
		return nil
	}
	err := content.Walk(tree, pack, "", func(e content.Entry) error {
		if len(pl.dying) == 0 {
			return errSpared
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, ok := changed[e.Path]; ok {
			return nil
		}
		runs, err := content.EntryRuns(e, pack)
		if err != nil || !pl.dying.remove(runs) {
			return err
		}
		return pl.referAgain(e.Path, runs)
	})
	if err != nil && err != errSpared {
		return fmt.Errorf("look for chunks in use: %w", err)
	}
	return nil
}
