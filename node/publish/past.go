package publish

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"

	"swarmnode/content"
	"swarmnode/content/chunker"
	"swarmnode/content/durable"
	"swarmnode/content/store"
)

// past is the last release, as far as the next one needs it.
type past struct {
	manifest *content.Manifest // nil: there is none
	digest   content.Digest
	infos    []content.SegmentInfo
	params   chunker.Params // by which the next release is cut
	sameRule bool           // the last one was cut in the same way
	blocks   content.BlockSource

	tableNumber uint32 // the segment whose table was used last
	tableOf     *content.Table
}

// recall loads the last release. A *content.Missing says which of its blocks have to be fetched first.
func (p *Publisher) recall() (*past, error) {
	last := &past{params: p.cfg.Params, blocks: p.cfg.Pack}
	head := p.cfg.Signer.Head()
	if head.Release > 0 {
		data, ok := p.cfg.Pack.Block(head.Manifest)
		if !ok {
			return nil, fmt.Errorf("recall release %d: %w", head.Release, &content.Missing{Blocks: []content.Digest{head.Manifest}})
		}
		m, err := content.DecodeManifest(data)
		if err != nil {
			return nil, fmt.Errorf("recall release %d: %w", head.Release, err)
		}
		if m.Name != p.cfg.Name {
			return nil, fmt.Errorf("this collection is published as %q, not as %q", m.Name, p.cfg.Name)
		}
		last.manifest, last.digest = m, head.Manifest
		if last.infos, err = content.LoadDirectory(m.Directory, p.cfg.Pack); err != nil {
			return nil, fmt.Errorf("recall release %d: %w", head.Release, err)
		}
	}
	return last, last.chooseRule()
}

// chooseRule keeps to the rule of the last release unless the configuration says another.
func (l *past) chooseRule() error {
	if l.manifest != nil && l.params.Version == 0 {
		if err := content.Decode(l.manifest.Chunking, len(l.manifest.Chunking), &l.params); err != nil {
			return fmt.Errorf("the last release's chunking parameters: %w", err)
		}
	}
	if l.params.Version == 0 {
		l.params = chunker.Default()
	}
	l.sameRule = l.manifest != nil && string(content.Encode(l.params)) == string(l.manifest.Chunking)
	return l.params.Check()
}

// alive reports whether the last release uses the chunk at ref, so that the next may. The index may know of more: places
// of chunks that died, and of a publish that was cut off.
func (l *past) alive(ref content.Ref) bool {
	return int(ref.Segment) < len(l.infos) && ref.Index < l.infos[ref.Segment].Chunks && !l.infos[ref.Segment].Dead.Has(ref.Index)
}

// entries gives all entries of the last release in order.
func (l *past) entries() iter.Seq2[content.Entry, error] {
	return func(yield func(content.Entry, error) bool) {
		if l.manifest == nil {
			return
		}
		stopped := errors.New("stopped")
		err := content.Walk(l.manifest.Tree, l.blocks, "", func(e content.Entry) error {
			if !yield(e, nil) {
				return stopped
			}
			return nil
		})
		if err != nil && err != stopped {
			yield(content.Entry{}, fmt.Errorf("walk the last release: %w", err))
		}
	}
}

// before gives what the scan compares with: the snapshot, if it is that of the last release, else the release itself, which says
// what is gone but vouches for no file.
func (p *Publisher) before(last *past) iter.Seq2[File, error] {
	if last.manifest == nil {
		return nil
	}
	s, err := p.openPrevious(last.manifest.Tree)
	if err == nil && s.tree == last.manifest.Tree {
		return s.files()
	}
	p.cfg.Log.Info("no snapshot of the last release: all files are hashed again", "release", last.manifest.Release, "error", err)
	return func(yield func(File, error) bool) {
		for e, err := range last.entries() {
			if !yield(File{Path: e.Path, Mode: e.Mode}, err) {
				return
			}
		}
	}
}

// tidyIndex brings the index in line with the last release. What a publish that was cut off has added goes; the places of all
// chunks are noted again after one, for some may be in files that were never published; and so is an index that was deleted.
func (p *Publisher) tidyIndex(ctx context.Context, last *past) error {
	files := last.storeFiles()
	if p.cfg.Arrivals != nil {
		files = last.arrivalFiles()
	}
	known := map[uint32]bool{}
	for _, n := range p.cfg.References.Segments() {
		known[n] = true
		if int(n) >= len(last.infos) {
			if err := p.cfg.References.Remove(n); err != nil {
				return fmt.Errorf("remove what an unfinished publish left: %w", err)
			}
		}
	}
	_, err := os.Stat(p.path(unfinishedName))
	whole := err != nil || p.cfg.Arrivals != nil // places in arrivals never change
	if last.manifest == nil && !whole {
		return p.cfg.References.SweepLinks(1)
	}
	for n, info := range last.infos {
		whole = whole && (info.Retired() || known[uint32(n)])
	}
	if whole || last.manifest == nil {
		return nil
	}
	p.cfg.Log.Info("the publisher's index is filled again from the last release", "release", last.manifest.Release)
	if err := p.begin(); err != nil {
		return err
	}
	if err := p.cfg.References.Rebuild(ctx, last.segments(), files); err != nil {
		return err
	}
	if err := p.cfg.References.SweepLinks(last.manifest.Release + 1); err != nil {
		return err
	}
	return p.finish()
}

// begin says durably that the index is no longer that of the last release alone, finish that it is.
func (p *Publisher) begin() error {
	if err := durable.WriteFile(p.path(unfinishedName), nil, 0o600); err != nil {
		return fmt.Errorf("begin to change the publisher's index: %w", err)
	}
	return nil
}

func (p *Publisher) finish() error {
	if err := os.Remove(p.path(unfinishedName)); err != nil {
		return fmt.Errorf("finish changing the publisher's index: %w", err)
	}
	return nil
}

// segments and storeFiles are the last release in the form that a rebuild takes.
func (l *past) segments() iter.Seq2[store.Segment, error] {
	return func(yield func(store.Segment, error) bool) {
		for n, info := range l.infos {
			if !info.Retired() && !yield(store.Segment{Number: uint32(n), Info: info}, nil) {
				return
			}
		}
	}
}

func (l *past) storeFiles() iter.Seq2[store.File, error] {
	return func(yield func(store.File, error) bool) {
		for e, err := range l.entries() {
			var runs []content.Run
			if err == nil {
				if !e.IsFile() {
					continue
				}
				runs, err = content.EntryRuns(e, l.blocks)
			}
			if !yield(store.File{Path: e.Path, Runs: runs}, err) {
				return
			}
		}
	}
}

// arrivalFiles are the files of segments that arrived, in the form that a rebuild takes: each run of live chunks is one.
func (l *past) arrivalFiles() iter.Seq2[store.File, error] {
	return func(yield func(store.File, error) bool) {
		for n, info := range l.infos {
			if info.Retired() {
				continue
			}
			t, err := l.table(uint32(n))
			if err != nil {
				yield(store.File{}, err)
				return
			}
			var runs []content.Run
			for i := range info.Chunks {
				if !info.Dead.Has(i) {
					runs = content.AppendRef(runs, content.Ref{Segment: uint32(n), Index: i})
				}
			}
			for _, r := range runs {
				f := store.File{Path: store.ArrivalFile(uint32(n)), At: int64(t.Offset(r.First)), Runs: []content.Run{r}}
				if !yield(f, nil) {
					return
				}
			}
		}
	}
}

// walkShare is the share of a release's entries from which on reading all of them in order is cheaper than looking up each.
const walkShare = 20

// finder gives entries of the last release for paths that come in order.
type finder struct {
	last *past
	next func() (content.Entry, error, bool) // nil: look up
	stop func()
	at   content.Entry
	more bool
}

// find prepares for about n paths. The caller calls close.
func (l *past) find(n int) (*finder, error) {
	f := &finder{last: l, stop: func() {}}
	if l.manifest == nil {
		return f, nil
	}
	t := l.manifest.Totals
	if uint64(n) <= (t.Files+t.Dirs+t.Links)/walkShare {
		return f, nil
	}
	f.next, f.stop = iter.Pull2(l.entries())
	return f, f.advance()
}

func (f *finder) advance() (err error) {
	f.at, err, f.more = f.next()
	return err
}

func (f *finder) entry(path string) (e content.Entry, ok bool, err error) {
	if f.last.manifest == nil {
		return e, false, nil
	}
	if f.next == nil {
		e, err = content.Lookup(f.last.manifest.Tree, f.last.blocks, path)
		if errors.Is(err, content.ErrNoEntry) {
			return e, false, nil
		}
		return e, err == nil, err
	}
	for f.more && content.ComparePaths(f.at.Path, path) < 0 {
		if err := f.advance(); err != nil {
			return e, false, err
		}
	}
	return f.at, f.more && f.at.Path == path, nil
}
