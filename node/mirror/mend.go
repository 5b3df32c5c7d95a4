package mirror

import (
	"context"
	"time"

	"swarmnode/content"
)

// Stored says that a chunk of n bytes has been put on disk.
func (m *Mirror) Stored(ref content.Ref, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cfg.Availability.Chunk(ref) {
		m.progress.Here += int64(n)
	}
}

// Bad says that a chunk on disk had lost its bytes and was dropped: it is fetched again.
func (m *Mirror) Bad(ref content.Ref, path string) {
	m.cfg.Log.Warn("a chunk on disk is damaged, it is fetched again: look at the disk", "segment", ref.Segment, "chunk", ref.Index, "file", path)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lose(ref.Segment)
}

// lose notes that a segment may lack chunks that were here, and tells peers what is left. The caller holds mu.
func (m *Mirror) lose(segment uint32) {
	delete(m.lost, segment)
	info := m.served.info(segment) // an older release has no fewer live chunks
	if info.Retired() {
		info = m.target.info(segment)
	}
	have := m.cfg.Disk.Have(segment)
	if m.cfg.Cache != nil { // what is asked for again is fetched again
		m.cfg.Availability.Have(segment, have)
		return
	}
	if !info.Retired() && lacking(info, have).Count() == 0 {
		return // a dead one
	}
	m.cfg.Availability.Have(segment, have)
	if info.Retired() {
		return // of a release that was dropped
	}
	m.lost[segment] = false
	if lacking(m.followed().info(segment), have).Count() > 0 {
		m.wanted[segment] = true
	}
}

// followed is the release of which chunks are wanted: the target, or the served one. The caller holds mu.
func (m *Mirror) followed() *release {
	if m.target != nil {
		return m.target
	}
	return m.served
}

// look tells peers of segments when they are complete and durable, and has what was lost fetched again, until ctx ends.
func (m *Mirror) look(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		m.mend()
		m.tellComplete()
	}
}

// mend asks for chunks that were lost.
func (m *Mirror) mend() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for n, asked := range m.lost {
		info := m.followed().info(n)
		need := lacking(info, m.cfg.Disk.Have(n))
		if need.Count() == 0 && m.target == nil {
			delete(m.lost, n)
		}
		if asked || need.Count() == 0 {
			continue
		}
		t, err := m.table(info.Table)
		if err != nil {
			m.cfg.Log.Debug("cannot fetch a damaged chunk again", "segment", n, "error", err)
			continue
		}
		m.lost[n], m.wanted[n] = true, true
		m.progress.Here = m.progress.Bytes - sizeOf(t, need)
		m.cfg.Fetch.Want(n, t, need)
	}
}

// tellComplete tells peers of the segments that have become whole and durable.
func (m *Mirror) tellComplete() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for n := range m.wanted {
		info := m.followed().info(n)
		if !info.Retired() && lacking(info, m.cfg.Disk.Synced(n)).Count() == 0 {
			delete(m.wanted, n)
			m.cfg.Availability.Complete(n)
		}
	}
}
