package mirror

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"swarmnode/content"
	"swarmnode/content/durable"
)

const (
	scrubFile    = "scrub.json"
	scrubVersion = 1
)

// position is where a scrub stands, on disk. It is worth no trust: one that is damaged is begun anew.
type position struct {
	Version  int       `json:"version"`
	Under    bool      `json:"under_way"`
	Began    time.Time `json:"began"`
	Blocks   bool      `json:"blocks_done"`
	Segment  uint32    `json:"next_segment"`
	Checked  int64     `json:"checked"`
	Bytes    int64     `json:"bytes"`
	Passes   uint64    `json:"passes"`
	Finished time.Time `json:"finished,omitzero"`
}

// restart begins a pass.
func (p *position) restart(now time.Time) {
	*p = position{Version: scrubVersion, Under: true, Began: now, Passes: p.Passes, Finished: p.Finished}
}

// readPosition reads where the scrub of a collection stands. What is new is not read at once: it was hashed when it came.
func readPosition(dir string, now time.Time) position {
	raw, err := os.ReadFile(filepath.Join(dir, scrubFile))
	var p position
	if err != nil || json.Unmarshal(raw, &p) != nil || p.Version != scrubVersion || p.Began.After(now) {
		return position{Version: scrubVersion, Began: now}
	}
	return p
}

// save writes the position.
func (s *Scrubber) save() {
	s.mu.Lock()
	at := s.at
	s.saved = time.Now()
	s.mu.Unlock()
	raw, err := json.Marshal(at)
	if err == nil {
		err = durable.WriteFile(filepath.Join(s.cfg.Dir, scrubFile), append(raw, '\n'), 0o644)
	}
	if err != nil {
		s.cfg.Log.Warn("the position of the scrub is not kept: look at the disk", "error", err)
	}
}

// Live gives the chunks of a segment that the served release or the one on its way needs.
func (m *Mirror) Live(segment uint32) content.Bitmap {
	if m.cfg.Cache != nil {
		return m.cfg.Disk.Have(segment) // nothing is needed but what is here
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	live := m.served.info(segment).Live()
	live.Or(m.target.info(segment).Live())
	return live
}

// Blocks fetches the metadata blocks of the served release again that are not here, and of its delta those that are in lost,
// as long as somebody has them. A release on its way fetches its own.
func (m *Mirror) Blocks(ctx context.Context, lost []content.Digest) error {
	m.metadata.Lock()
	defer m.metadata.Unlock()
	m.mu.Lock()
	r := m.served
	m.mu.Unlock()
	if r == nil {
		return nil
	}
	manifest := content.Sum(r.Encode())
	err := m.fetching(ctx, func() error {
		if _, err := m.manifest(manifest); err != nil {
			return err
		}
		if _, err := content.LoadDirectory(r.Directory, m.cfg.Pack); err != nil {
			return err
		}
		missing, err := content.MissingNodes(r.Tree, m.cfg.Pack, missingNodes)
		if err == nil && len(missing) > 0 {
			err = &content.Missing{Blocks: missing}
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := m.tables(ctx, r.infos); err != nil {
		return err
	}
	m.deltaAgain(ctx, r, lost)
	return m.cfg.Pack.Sync()
}

// deltaAgain fetches parts of the delta that were lost, if somebody has them: others can do without.
func (m *Mirror) deltaAgain(ctx context.Context, r *release, lost []content.Digest) {
	var parts []content.Digest
	for _, d := range r.Delta {
		for _, l := range lost {
			if d == l && !m.cfg.Pack.Has(d) {
				parts = append(parts, d)
			}
		}
	}
	if len(parts) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, deltaPatience)
	defer cancel()
	if err := m.blocks(ctx, parts); err != nil {
		m.cfg.Log.Debug("the delta that was damaged is not here again", "release", r.Release, "error", err)
	}
}
