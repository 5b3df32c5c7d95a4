package mirror

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"swarmnode/content"
	"swarmnode/gossip"
)

// follow takes in a release: metadata, segments, switch. It can be ended at any moment and begun again; what was
// fetched stays.
func (m *Mirror) follow(ctx context.Context, head gossip.Head) error {
	m.work.Lock()
	defer m.work.Unlock()
	m.phase("fetching metadata")
	next, infos, err := m.metadata(ctx, head)
	if err != nil {
		return err
	}
	if err := m.plan(infos); err != nil {
		return err
	}
	if err := m.tables(ctx, infos); err != nil {
		return err
	}
	if err := m.cfg.Pack.Sync(); err != nil {
		return fmt.Errorf("keep metadata: %w", err)
	}
	m.phase("fetching")
	for {
		wanted, err := m.want(infos)
		if err != nil {
			return err
		}
		if wanted == 0 {
			break
		}
		if err := m.cfg.Fetch.Wait(ctx); err != nil {
			m.unwant()
			return err
		}
		if err := m.cfg.Disk.Sync(ctx); err != nil {
			return err
		}
	}
	return m.serve(next, infos)
}

func (m *Mirror) phase(p string) { m.update(func(x *Progress) { x.Phase = p }) }

// metadata fetches what describes the release and is not here: by the delta if the release before is here, else block by block.
func (m *Mirror) metadata(ctx context.Context, head gossip.Head) (*content.Manifest, []content.SegmentInfo, error) {
	var next *content.Manifest
	err := m.fetching(ctx, func() (err error) {
		next, err = m.manifest(head.Manifest)
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("manifest of release %d: %w", head.Release, err)
	}
	if next.Collection != m.cfg.ID || next.Release != head.Release {
		return nil, nil, fmt.Errorf("the manifest of release %d is that of release %d of %s", head.Release, next.Release, next.Collection)
	}
	if err := m.applyDelta(ctx, next); err != nil {
		if ctx.Err() != nil {
			return nil, nil, err
		}
		m.cfg.Log.Debug("the delta does not help", "release", next.Release, "reason", err)
	}
	var infos []content.SegmentInfo
	err = m.fetching(ctx, func() (err error) {
		infos, err = content.LoadDirectory(next.Directory, m.cfg.Pack)
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("segment directory of release %d: %w", next.Release, err)
	}
	err = m.fetching(ctx, func() error {
		missing, err := content.MissingNodes(next.Tree, m.cfg.Pack, missingNodes)
		if err == nil && len(missing) > 0 {
			err = &content.Missing{Blocks: missing}
		}
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("file tree of release %d: %w", next.Release, err)
	}
	return next, infos, nil
}

// errNoDelta says that there is no delta from what is here.
var errNoDelta = errors.New("no delta from the release that is here")

// applyDelta makes the new tree and directory out of the ones that are here, if the release has a delta from them.
func (m *Mirror) applyDelta(ctx context.Context, next *content.Manifest) error {
	if len(next.Delta) == 0 {
		return errNoDelta
	}
	if _, here := m.cfg.Pack.Block(next.Tree); here {
		return nil // taken in before
	}
	previous, err := m.manifest(next.Previous)
	if err != nil {
		return errNoDelta
	}
	if missing, err := content.MissingNodes(previous.Tree, m.cfg.Pack, 1); err != nil || len(missing) > 0 {
		return errNoDelta
	}
	var parts [][]byte
	err = m.fetching(ctx, func() error {
		parts = parts[:0]
		var missing content.Missing
		for _, d := range next.Delta {
			data, ok := m.cfg.Pack.Block(d)
			if !ok {
				missing.Blocks = append(missing.Blocks, d)
			}
			parts = append(parts, data)
		}
		if len(missing.Blocks) > 0 {
			return &missing
		}
		return nil
	})
	if err != nil {
		return err
	}
	delta, err := content.DecodeDelta(parts)
	if err != nil {
		return err
	}
	return content.ApplyDelta(previous, next, delta, m.cfg.Pack, m.cfg.Pack.Put)
}

// fetching runs look until it misses no block.
func (m *Mirror) fetching(ctx context.Context, look func() error) error {
	return content.Fill(look, func(missing []content.Digest) error { return m.blocks(ctx, missing) })
}

func (m *Mirror) blocks(ctx context.Context, digests []content.Digest) error {
	return m.cfg.Fetch.Blocks(ctx, digests, func(_ content.Digest, data []byte) error {
		_, err := m.cfg.Pack.Put(data)
		return err
	})
}

// plan counts what the release needs and checks that there is room for it before anything is fetched.
func (m *Mirror) plan(infos []content.SegmentInfo) error {
	var segments int
	var total, need int64
	for n, s := range infos {
		if s.Retired() {
			continue
		}
		segments++
		total += int64(s.Size)
		if m.cfg.Disk.Have(uint32(n)).Count() == 0 {
			need += int64(s.Size)
		}
	}
	m.update(func(p *Progress) { p.Segments, p.Complete, p.Bytes, p.Here = segments, 0, total, total-need })
	if err := m.cfg.Disk.CheckBudget(need); err != nil {
		m.phase("short of disk")
		return fmt.Errorf("release does not fit: %w", err)
	}
	return nil
}

// tables fetches the segment tables that are not here.
func (m *Mirror) tables(ctx context.Context, infos []content.SegmentInfo) error {
	var missing []content.Digest
	for _, s := range infos {
		if !s.Retired() && !m.cfg.Pack.Has(s.Table) {
			missing = append(missing, s.Table)
		}
	}
	for len(missing) > 0 {
		n := min(len(missing), tablesAtOnce)
		if err := m.blocks(ctx, missing[:n]); err != nil {
			return fmt.Errorf("segment tables: %w", err)
		}
		missing = missing[n:]
	}
	return nil
}

// Table gives the table with this digest out of the pack.
func (m *Mirror) table(d content.Digest) (*content.Table, error) {
	data, ok := m.cfg.Pack.Block(d)
	if !ok {
		return nil, fmt.Errorf("segment table %s is not here", d.BlockCID())
	}
	return content.DecodeTable(data)
}

// want asks for every live chunk that is not here and gives the number of segments that lack something.
func (m *Mirror) want(infos []content.SegmentInfo) (lacking int, err error) {
	m.unwantRetired(infos)
	complete := 0
	var total, here int64
	for i, s := range infos {
		if s.Retired() {
			continue
		}
		n := uint32(i)
		t, err := m.table(s.Table)
		if err != nil {
			return 0, err
		}
		if t.Len() != s.Chunks || t.Size() != s.Size {
			return 0, fmt.Errorf("segment %d: the table has %d chunks of %d bytes, the directory says %d of %d", n, t.Len(), t.Size(), s.Chunks, s.Size)
		}
		if err := m.cfg.Disk.Add(n, s, t); err != nil {
			return 0, fmt.Errorf("segment %d: %w", n, err)
		}
		live := s.Live()
		need := live.Clone()
		need.AndNot(m.cfg.Disk.Have(n))
		total += sizeOf(t, live)
		here += sizeOf(t, live) - sizeOf(t, need)
		if need.Count() == 0 {
			complete++
			continue
		}
		lacking++
		m.mu.Lock()
		m.wanted[n] = true
		m.mu.Unlock()
		m.cfg.Fetch.Want(n, t, need)
	}
	m.mu.Lock()
	m.infos = infos
	m.progress.Complete, m.progress.Bytes, m.progress.Here = complete, total, here
	m.mu.Unlock()
	return lacking, nil
}

// sizeOf is the sum of the sizes of some chunks of a segment.
func sizeOf(t *content.Table, chunks content.Bitmap) (n int64) {
	for i := range t.Len() {
		if chunks.Has(i) {
			n += int64(t.Chunk(i).Size)
		}
	}
	return n
}

// unwantRetired drops what an earlier release wanted and this one has no use for.
func (m *Mirror) unwantRetired(infos []content.SegmentInfo) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for n := range m.wanted {
		if int(n) >= len(infos) || infos[n].Retired() {
			delete(m.wanted, n)
			m.cfg.Fetch.Want(n, nil, nil)
		}
	}
}

// unwant drops everything that is still wanted.
func (m *Mirror) unwant() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for n := range m.wanted {
		m.cfg.Fetch.Want(n, nil, nil)
	}
	clear(m.wanted)
}

// Stored says that a chunk of n bytes has been put on disk.
func (m *Mirror) Stored(ref content.Ref, n int) {
	m.cfg.Availability.Chunk(ref)
	m.update(func(p *Progress) { p.Here += int64(n) })
}

// Bad says that a chunk on disk had lost its bytes and was dropped: it is fetched again.
func (m *Mirror) Bad(ref content.Ref, path string) {
	m.cfg.Log.Warn("a chunk on disk is damaged: it is fetched again", "segment", ref.Segment, "chunk", ref.Index, "file", path)
	m.mu.Lock()
	var info content.SegmentInfo
	if int(ref.Segment) < len(m.infos) {
		info = m.infos[ref.Segment]
	}
	m.mu.Unlock()
	have := m.cfg.Disk.Have(ref.Segment)
	m.cfg.Availability.Have(ref.Segment, have)
	if info.Retired() {
		return
	}
	t, err := m.table(info.Table)
	if err != nil {
		m.cfg.Log.Warn("cannot fetch a damaged chunk again", "segment", ref.Segment, "reason", err)
		return
	}
	need := info.Live()
	need.AndNot(have)
	m.mu.Lock()
	m.wanted[ref.Segment] = true
	m.mu.Unlock()
	m.cfg.Fetch.Want(ref.Segment, t, need)
}

// look tells peers of segments when they are complete and durable, until ctx ends.
func (m *Mirror) look(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		m.mu.Lock()
		var done []uint32
		for n := range m.wanted {
			if int(n) >= len(m.infos) || m.infos[n].Retired() {
				continue
			}
			lacking := m.infos[n].Live()
			lacking.AndNot(m.cfg.Disk.Synced(n))
			if lacking.Count() == 0 {
				done = append(done, n)
				delete(m.wanted, n)
				m.progress.Complete++
			}
		}
		m.mu.Unlock()
		for _, n := range done {
			m.cfg.Availability.Complete(n)
		}
	}
}

// serve makes a release the served one. Everything of it is here; after this it is durable that it is served.
func (m *Mirror) serve(next *content.Manifest, infos []content.SegmentInfo) error {
	if err := m.cfg.Disk.Sync(context.Background()); err != nil {
		return err
	}
	m.mu.Lock()
	st := m.state.next(content.Sum(next.Encode()), next.Release, time.Now())
	took := time.Since(m.progress.Heard)
	m.mu.Unlock()
	if err := st.write(filepath.Join(m.cfg.Dir, stateFile)); err != nil {
		return err
	}
	m.mu.Lock()
	m.state = st
	m.mu.Unlock()
	m.setServed(next, infos, took)
	m.cfg.Log.Info("release is complete and served", "name", next.Name, "release", next.Release, "collection", m.cfg.ID, "took", took.Round(time.Millisecond))
	return nil
}

// setServed makes known that a release is served.
func (m *Mirror) setServed(man *content.Manifest, infos []content.SegmentInfo, took time.Duration) {
	m.mu.Lock()
	m.served, m.infos = man, infos
	clear(m.wanted)
	p := &m.progress
	p.Phase, p.Took, p.Trouble = "complete", took, nil
	p.Segments, p.Complete = 0, 0
	for _, s := range infos {
		if !s.Retired() {
			p.Segments++
		}
	}
	p.Complete, p.Bytes, p.Here = p.Segments, int64(man.LiveBytes), int64(man.LiveBytes)
	m.mu.Unlock()
	m.cfg.Availability.Switch(man.Release, uint32(len(infos)))
	m.cfg.Served(man)
}
