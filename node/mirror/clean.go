package mirror

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"swarmnode/content"
	"swarmnode/content/guard"
)

// compactAt is the share of a pack that has to be garbage before it is written anew.
const compactAt = 0.5

// Clean forgets releases that were replaced longer ago than the grace time and frees what only they used: chunks dead in the
// served release and in all that are kept, retired segments, metadata blocks that nothing names.
func (m *Mirror) Clean(now time.Time) error {
	m.work.Lock()
	defer m.work.Unlock()
	m.mu.Lock()
	served, target, st := m.served, m.target, m.state
	m.mu.Unlock()
	if served == nil {
		return nil
	}
	keep := st
	keep.Kept = nil
	for _, k := range st.Kept {
		if now.Sub(k.Replaced) < m.cfg.Grace || m.cfg.Export != nil && m.cfg.Export.Keeps(k.Manifest) {
			keep.Kept = append(keep.Kept, k)
		}
	}
	if len(keep.Kept) == len(st.Kept) {
		return nil
	}
	var live [][]content.SegmentInfo
	for _, k := range keep.Kept {
		old, err := m.directoryOf(k.Manifest)
		if err != nil {
			return err
		}
		if guard.On(guard.Grace) {
			live = append(live, old)
		}
	}
	if target != nil {
		live = append(live, target.infos)
	}
	if err := m.free(served.infos, live); err != nil {
		return err
	}
	if err := m.dropExported(keep); err != nil {
		return err
	}
	if err := keep.write(filepath.Join(m.cfg.Dir, stateFile)); err != nil {
		return err
	}
	m.mu.Lock()
	m.state = keep
	m.cfg.Changed()
	m.mu.Unlock()
	return m.compact(keep)
}

// dropExported removes the exported files of the releases that are forgotten. Their chunks are dropped already, so that nobody takes
// them for damaged.
func (m *Mirror) dropExported(keep state) error {
	if m.cfg.Export == nil {
		return nil
	}
	return m.cfg.Export.Drop(func(d content.Digest) bool {
		return d == keep.Served || slices.ContainsFunc(keep.Kept, func(k kept) bool { return k.Manifest == d })
	})
}

func (m *Mirror) directoryOf(manifest content.Digest) ([]content.SegmentInfo, error) {
	man, err := m.manifest(manifest)
	if err != nil {
		return nil, err
	}
	return content.LoadDirectory(man.Directory, m.cfg.Pack)
}

// free gives back the chunks that are dead in the served release and in every other one that is kept or being fetched.
func (m *Mirror) free(infos []content.SegmentInfo, others [][]content.SegmentInfo) error {
	var errs []error
	for _, n := range m.cfg.Disk.Segments() {
		if int(n) >= len(infos) {
			continue // of a release on its way
		}
		used := infos[n].Live()
		retired := infos[n].Retired()
		for _, o := range others {
			if int(n) < len(o) && !o[n].Retired() {
				retired = false
				used.Or(o[n].Live())
			}
		}
		if retired {
			errs = append(errs, m.cfg.Disk.Remove(n))
			continue
		}
		dead := m.cfg.Disk.Have(n)
		dead.AndNot(used)
		if dead.Count() > 0 {
			errs = append(errs, m.cfg.Disk.Punch(n, dead))
		}
	}
	return errors.Join(errs...)
}

// compact writes the pack anew if much of it is garbage, unless metadata is being fetched: the next Clean will. A release whose
// metadata came since Clean began is the target by now.
func (m *Mirror) compact(st state) error {
	if !m.metadata.TryLock() {
		return nil
	}
	defer m.metadata.Unlock()
	m.mu.Lock()
	target := m.target
	m.mu.Unlock()
	used := map[content.Digest]bool{}
	note := func(d content.Digest) { used[d] = true }
	releases := []content.Digest{st.Served}
	if target != nil {
		releases = append(releases, content.Sum(target.Encode()))
	}
	for _, k := range st.Kept {
		releases = append(releases, k.Manifest)
	}
	for _, d := range releases {
		if err := m.noteRelease(d, note); err != nil {
			return fmt.Errorf("find unused metadata: %w", err)
		}
	}
	if all := m.cfg.Pack.Stats().Blocks; float64(all-len(used)) < compactAt*float64(all) {
		return nil
	}
	return m.cfg.Pack.Compact(func(d content.Digest) bool { return used[d] })
}

// noteRelease names every metadata block of a release.
func (m *Mirror) noteRelease(d content.Digest, note func(content.Digest)) error {
	man, err := m.manifest(d)
	if err != nil {
		return err
	}
	note(d)
	for _, p := range man.Delta {
		note(p)
	}
	note(man.Directory)
	data, ok := m.cfg.Pack.Block(man.Directory)
	if !ok {
		return &content.Missing{Blocks: []content.Digest{man.Directory}}
	}
	_, pages, err := content.DecodeDirectory(data)
	if err != nil {
		return err
	}
	for _, p := range pages {
		note(p)
	}
	infos, err := content.LoadDirectory(man.Directory, m.cfg.Pack)
	if err != nil {
		return err
	}
	for _, s := range infos {
		if !s.Retired() {
			note(s.Table)
		}
	}
	return content.NodeBlocks(man.Tree, m.cfg.Pack, note)
}
