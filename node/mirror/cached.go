package mirror

import (
	"context"
	"time"

	"swarmnode/content"
)

// heldEvery is how often a cache looks whether others have a release that it has the metadata of: they fetch it meanwhile.
const heldEvery = time.Second

// connectCache tells the cache, if there is one, of this mirror.
func (m *Mirror) connectCache() {
	if c := m.cfg.Cache; c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.info, c.tell = m.newest, m.evicted
	}
}

// fitCache frees what is over a budget that was larger before.
func (m *Mirror) fitCache() error {
	if m.cfg.Cache == nil {
		return nil
	}
	return m.cfg.Cache.Evict()
}

// newest is what the newest release whose metadata is here says of a segment.
func (m *Mirror) newest(segment uint32) (info content.SegmentInfo, known bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.followed()
	return r.info(segment), r != nil
}

// evicted tells peers that less of a segment is here.
func (m *Mirror) evicted(segment uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cfg.Availability.Have(segment, m.cfg.Disk.Have(segment))
}

// followCached makes a release the served one as soon as others have it: what is asked for is fetched from them.
func (m *Mirror) followCached(ctx context.Context, r *release) error {
	m.update(func(p *Progress) { p.Bytes = int64(r.LiveBytes) })
	for !m.cfg.Held(r.Release) {
		m.phase("waiting for a node that has the release")
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(heldEvery):
		}
	}
	return m.serve(r)
}
