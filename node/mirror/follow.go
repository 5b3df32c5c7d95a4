package mirror

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"swarmnode/content"
	"swarmnode/gossip"
)

// follow takes in a release: metadata, segments, switch. It can be ended at any moment and begun again; what was
// fetched stays.
func (m *Mirror) follow(ctx context.Context, head gossip.Head) (err error) {
	r, err := m.prepare(ctx, head)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			m.drop()
		}
	}()
	if m.cfg.Cache != nil {
		return m.followCached(ctx, r)
	}
	for {
		wanted, err := m.want(r)
		if err != nil {
			return err
		}
		if wanted == 0 {
			return m.serve(r)
		}
		m.phase("fetching")
		if err := m.cfg.Fetch.Wait(ctx); err != nil {
			return err
		}
		if err := m.cfg.Disk.Sync(ctx); err != nil {
			return err
		}
	}
}

// prepare fetches all metadata of a release and makes it the target.
func (m *Mirror) prepare(ctx context.Context, head gossip.Head) (*release, error) {
	m.metadata.Lock()
	defer m.metadata.Unlock()
	m.phase("fetching metadata")
	next, infos, err := m.describe(ctx, head)
	if err != nil {
		return nil, err
	}
	// Some of what is on disk may be of other releases; want knows better once the tables are here.
	if err := m.room(int64(next.LiveBytes) - m.cfg.Disk.Stats().Used); err != nil {
		return nil, err
	}
	if err := m.tables(ctx, infos); err != nil {
		return nil, err
	}
	if err := m.cfg.Pack.Sync(); err != nil {
		return nil, fmt.Errorf("keep metadata: %w", err)
	}
	r := &release{next, infos}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.target = r
	m.cfg.Changed()
	return r, nil
}

// drop gives the target up: nothing of it is wanted any more.
func (m *Mirror) drop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for n := range m.wanted {
		m.cfg.Fetch.Want(n, nil, nil)
	}
	for n := range m.lost {
		m.lost[n] = false
	}
	m.target = nil
	m.cfg.Changed()
}

func (m *Mirror) phase(p string) { m.update(func(x *Progress) { x.Phase = p }) }

// describe fetches what describes the release and is not here: by the delta if the release before is here, else block by block.
func (m *Mirror) describe(ctx context.Context, head gossip.Head) (*content.Manifest, []content.SegmentInfo, error) {
	if err := m.outline(ctx, head); err != nil {
		return nil, nil, fmt.Errorf("release %d: %w", head.Release, err)
	}
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
		m.cfg.Log.Debug("the delta does not help", "release", next.Release, "error", err)
	}
	var infos []content.SegmentInfo
	err = m.fetching(ctx, func() (err error) {
		infos, err = content.LoadDirectory(next.Directory, m.cfg.Pack)
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("segment directory of release %d: %w", next.Release, err)
	}
	var size uint64
	for _, s := range infos {
		size += uint64(s.Size)
	}
	if next.LiveBytes > size {
		return nil, nil, fmt.Errorf("release %d says that it has %d live bytes, its segments have %d", next.Release, next.LiveBytes, size)
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

// outline fetches the metadata of a first release as far as one request brings it. Of a later one most is here.
func (m *Mirror) outline(ctx context.Context, head gossip.Head) error {
	if m.Served() != nil || m.cfg.Pack.Has(head.Manifest) {
		return nil
	}
	return m.cfg.Fetch.Outline(ctx, head.Manifest, outlineRoom, func(_ content.Digest, data []byte) error {
		_, err := m.put(data)
		return err
	})
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
	var parts [][]byte
	err = m.fetchingSoon(ctx, deltaPatience, func() error {
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
	return content.ApplyDelta(previous, next, delta, m.cfg.Pack, m.put)
}

// fetching runs look until it misses no block.
func (m *Mirror) fetching(ctx context.Context, look func() error) error {
	return content.Fill(look, func(missing []content.Digest) error { return m.blocks(ctx, missing) })
}

// fetchingSoon is fetching that gives up when no block has come for so long.
func (m *Mirror) fetchingSoon(ctx context.Context, patience time.Duration, look func() error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(patience, func() { cancel(errNobody) })
	defer timer.Stop()
	return content.Fill(look, func(missing []content.Digest) error {
		return m.cfg.Fetch.Blocks(ctx, missing, func(_ content.Digest, data []byte) error {
			timer.Reset(patience)
			_, err := m.put(data)
			return err
		})
	})
}

// errNobody says that a metadata block cannot be had.
var errNobody = errors.New("nobody connected has it")

func (m *Mirror) blocks(ctx context.Context, digests []content.Digest) error {
	return m.cfg.Fetch.Blocks(ctx, digests, func(_ content.Digest, data []byte) error {
		_, err := m.put(data)
		return err
	})
}

// room asks whether so many bytes more can be stored.
func (m *Mirror) room(need int64) error {
	if need <= 0 || m.cfg.Cache != nil {
		return nil
	}
	if err := m.cfg.Disk.CheckBudget(need); err != nil {
		m.phase("short of disk")
		return fmt.Errorf("release does not fit: %w", err)
	}
	return nil
}

// put keeps a metadata block if there is room: the disk given is for these, too.
func (m *Mirror) put(data []byte) (content.Digest, error) {
	if err := m.room(int64(len(data))); err != nil {
		return content.Digest{}, err
	}
	return m.cfg.Pack.Put(data)
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

// table gives the table with this digest out of the pack.
func (m *Mirror) table(d content.Digest) (*content.Table, error) {
	data, ok := m.cfg.Pack.Block(d)
	if !ok {
		return nil, fmt.Errorf("segment table %s is not here", d.BlockCID())
	}
	return content.DecodeTable(data)
}

// want asks for every live chunk that is not here, if there is room for all, and gives the number of segments that lack
// something.
func (m *Mirror) want(r *release) (wanted int, err error) {
	m.work.Lock()
	defer m.work.Unlock()
	m.track(r)
	var missing int64
	err = m.unfinished(r, func(n uint32, s content.SegmentInfo, t *content.Table) error {
		missing += sizeOf(t, lacking(s, m.cfg.Disk.Have(n)))
		return nil
	})
	if err != nil {
		return 0, err
	}
	m.update(func(p *Progress) { p.Bytes, p.Here = int64(r.LiveBytes), int64(r.LiveBytes)-missing })
	if err := m.room(missing); err != nil {
		return 0, err
	}
	err = m.unfinished(r, func(n uint32, s content.SegmentInfo, t *content.Table) error {
		if err := m.cfg.Disk.Add(n, s, t); err != nil {
			return fmt.Errorf("segment %d: %w", n, err)
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		need := lacking(s, m.cfg.Disk.Have(n))
		if need.Count() > 0 {
			wanted++
		}
		m.cfg.Fetch.Want(n, t, need)
		return nil
	})
	return wanted, err
}

// unfinished calls fn for every live segment that is not the same as in the served release and may lack something, with its table.
func (m *Mirror) unfinished(r *release, fn func(n uint32, s content.SegmentInfo, t *content.Table) error) error {
	m.mu.Lock()
	served := m.served
	m.mu.Unlock()
	for i, s := range r.infos {
		n := uint32(i)
		if s.Retired() || served.info(n).Table == s.Table && lacking(s, m.cfg.Disk.Synced(n)).Count() == 0 {
			continue
		}
		t, err := m.table(s.Table)
		if err != nil {
			return err
		}
		if t.Len() != s.Chunks || t.Size() != s.Size {
			return fmt.Errorf("segment %d: the table has %d chunks of %d bytes, the directory says %d of %d", n, t.Len(), t.Size(), s.Chunks, s.Size)
		}
		if err := fn(n, s, t); err != nil {
			return err
		}
	}
	return nil
}

// track notes which segments of the release are not whole and durable, drops what is wanted of all others, and tells peers of
// those that are.
func (m *Mirror) track(r *release) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.wanted
	m.wanted, m.progress.Segments = map[uint32]bool{}, 0
	for i, s := range r.infos {
		n := uint32(i)
		if s.Retired() {
			continue
		}
		m.progress.Segments++
		if lacking(s, m.cfg.Disk.Synced(n)).Count() > 0 {
			m.wanted[n] = true
		} else {
			m.cfg.Availability.Complete(n)
		}
	}
	for n := range before {
		if !m.wanted[n] {
			m.cfg.Fetch.Want(n, nil, nil)
		}
	}
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

// serve makes a release the served one. Everything of it is here; after this it is durable that it is served.
func (m *Mirror) serve(r *release) error {
	m.work.Lock()
	defer m.work.Unlock()
	if err := m.cfg.Disk.Sync(context.Background()); err != nil {
		return err
	}
	if err := m.durable(r); err != nil {
		return err // lost since: by a sync that failed, or damaged
	}
	m.mu.Lock()
	st := m.state.next(content.Sum(r.Encode()), r.Release, time.Now())
	took := time.Since(m.progress.Heard)
	m.mu.Unlock()
	if err := st.write(filepath.Join(m.cfg.Dir, stateFile)); err != nil {
		return err
	}
	m.mu.Lock()
	m.state = st
	m.mu.Unlock()
	m.setServed(r, took)
	m.cfg.Log.Debug("release is complete and served", "name", r.Name, "release", r.Release, "collection", m.cfg.ID, "took", took.Round(time.Millisecond))
	return nil
}

// setServed makes known that a release is served.
func (m *Mirror) setServed(r *release, took time.Duration) {
	m.mu.Lock()
	m.served, m.target = r, nil
	p := &m.progress
	p.Phase, p.Took, p.Trouble = "complete", took, nil
	if m.cfg.Cache != nil {
		p.Phase = "keeping what is asked for"
	}
	p.Segments, p.Bytes, p.Here = 0, int64(r.LiveBytes), int64(r.LiveBytes)
	for _, s := range r.infos {
		if !s.Retired() {
			p.Segments++
		}
	}
	if m.cfg.Cache != nil {
		m.cfg.Availability.Serve(r.Release)
	} else {
		m.cfg.Availability.Switch(r.Release, uint32(len(r.infos)))
	}
	clear(m.wanted)
	for _, n := range slices.Collect(maps.Keys(m.lost)) { // a chunk may have gone bad in the last moment
		m.lose(n)
	}
	m.cfg.Changed()
	m.mu.Unlock()
	m.cfg.Served(r.Manifest)
}
