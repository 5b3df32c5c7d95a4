package publish

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"swarmnode/content"
	"swarmnode/content/durable"
	"swarmnode/content/store"
)

const (
	historyVersion = 1
	// maxReplaced is how many replaced releases are remembered; of a publisher that makes more within the grace time the
	// oldest lose their content early.
	maxReplaced = 256
)

// history is what a publisher remembers of the releases before, to let go of their content after the grace time.
type history struct {
	Version  int           `json:"version"`
	Release  uint64        `json:"release,omitempty"`  // the newest
	Manifest string        `json:"manifest,omitempty"` // of it, in hexadecimal
	Replaced []pastRelease `json:"replaced,omitempty"` // the oldest first
}

// pastRelease is a release that was replaced.
type pastRelease struct {
	Release  uint64    `json:"release"`
	Manifest string    `json:"manifest"`
	At       time.Time `json:"at"` // when it was
}

// remember brings the history in line with the newest signed release, durably.
func (p *Publisher) remember(now time.Time) (history, error) {
	h, err := readHistory(p.path(historyName))
	if err != nil {
		return h, err
	}
	head := p.cfg.Signer.Head()
	if h.Release == head.Release && (h.Release == 0 || h.Manifest == head.Manifest.String()) {
		return h, nil
	}
	if h.Release > 0 {
		h.Replaced = append(h.Replaced, pastRelease{h.Release, h.Manifest, now})
		h.Replaced = h.Replaced[max(0, len(h.Replaced)-maxReplaced):]
	}
	h.Version, h.Release, h.Manifest = historyVersion, head.Release, head.Manifest.String()
	return h, p.writeHistory(h)
}

func (p *Publisher) writeHistory(h history) error {
	data, err := json.MarshalIndent(h, "", "  ")
	if err == nil {
		err = durable.WriteFile(p.path(historyName), append(data, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("remember the releases: %w", diskFull(err))
	}
	return nil
}

func readHistory(path string) (h history, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return history{Version: historyVersion}, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &h)
	}
	if err == nil && h.Version != historyVersion {
		err = fmt.Errorf("version %d is not %d: it was written by another version of swarmnode", h.Version, historyVersion)
	}
	if err != nil {
		return h, fmt.Errorf("read %s (without it the content of replaced releases goes early): %w", path, err)
	}
	return h, nil
}

// Clean lets go of what only releases have that were replaced at least grace before now: links of files that are no longer in
// the tree, and the references of retired segments. It does nothing while a Publish is under way that does more than to list and fetch:
// call it again.
//
// What is fetched meanwhile is safe: it lies in segments that no release has yet, which are not looked at, and what a fetch finds here
// already are chunks that live in the newest release.
func (p *Publisher) Clean(now time.Time, grace time.Duration) error {
	if !p.changing.TryLock() {
		return nil
	}
	defer p.changing.Unlock()
	h, err := p.remember(now)
	if err != nil || h.Release == 0 {
		return err
	}
	kept := h.Replaced
	for len(kept) > 0 && now.Sub(kept[0].At) >= grace {
		kept = kept[1:]
	}
	oldest := h.Release
	if len(kept) > 0 {
		oldest = kept[0].Release
	}
	if err := p.cfg.References.DropLinks(oldest); err != nil {
		return fmt.Errorf("clean %s: %w", p.cfg.Name, err)
	}
	if err := p.dropSegments(h, kept); err != nil {
		return fmt.Errorf("clean %s: %w", p.cfg.Name, err)
	}
	if p.cfg.Arrivals != nil {
		if err := p.freeArrivals(h, kept); err != nil {
			return fmt.Errorf("clean %s: %w", p.cfg.Name, err)
		}
	}
	if len(kept) == len(h.Replaced) {
		return nil
	}
	h.Replaced = kept
	return p.writeHistory(h)
}

// dropSegments removes the segments that neither the newest release nor one of those kept has.
func (p *Publisher) dropSegments(h history, kept []pastRelease) error {
	infos, err := p.directoryOf(h.Manifest)
	if err != nil {
		return err
	}
	dead := map[uint32]bool{}
	for _, n := range p.cfg.References.Segments() {
		if int(n) < len(infos) && infos[n].Retired() { // others are of a publish that was cut off
			dead[n] = true
		}
	}
	for _, r := range kept {
		if len(dead) == 0 {
			return nil
		}
		older, err := p.directoryOf(r.Manifest)
		if err != nil {
			return err
		}
		for n := range dead {
			if int(n) < len(older) && !older[n].Retired() {
				delete(dead, n)
			}
		}
	}
	for n := range dead {
		if err := p.cfg.References.Remove(n); err != nil {
			return err
		}
	}
	return nil
}

// freeArrivals gives the room of what arrived and is dead in the newest release and in all of those kept back. The index forgets a
// place before its bytes go.
func (p *Publisher) freeArrivals(h history, kept []pastRelease) error {
	infos, err := p.directoryOf(h.Manifest)
	if err != nil {
		return err
	}
	var older [][]content.SegmentInfo
	for _, r := range kept {
		o, err := p.directoryOf(r.Manifest)
		if err != nil {
			return err
		}
		older = append(older, o)
	}
	numbers, err := p.cfg.Arrivals.Numbers()
	if err != nil {
		return err
	}
	known := map[uint32]bool{}
	for _, n := range p.cfg.References.Segments() {
		known[n] = true
	}
	for _, n := range numbers {
		if int(n) >= len(infos) {
			continue // no release has it yet
		}
		if infos[n].Retired() {
			if !known[n] { // dropSegments has found that no release kept has it either
				p.cfg.References.CloseFile(store.ArrivalFile(n))
				if err := p.cfg.Arrivals.Remove(n); err != nil {
					return err
				}
			}
			continue
		}
		if err := p.freeChunks(n, infos[n], older); err != nil {
			return err
		}
	}
	return nil
}

// freeChunks frees the dead chunks of a segment that goes on living.
func (p *Publisher) freeChunks(n uint32, info content.SegmentInfo, older [][]content.SegmentInfo) error {
	dead := info.Dead.Clone()
	for _, o := range older {
		if int(n) < len(o) && !o[n].Retired() {
			dead.AndNot(o[n].Live())
		}
	}
	if p.cfg.Arrivals.Freed(n, dead) {
		return nil
	}
	t, err := loadTable(p.cfg.Pack, info.Table)
	if err != nil {
		return err
	}
	if err := p.cfg.References.UnreferAll(n, dead); err != nil {
		return err
	}
	return p.cfg.Arrivals.Void(n, t, dead)
}

// directoryOf loads the segment directory of a release.
func (p *Publisher) directoryOf(manifest string) ([]content.SegmentInfo, error) {
	d, err := content.ParseDigest(manifest)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", historyName, err)
	}
	data, ok := p.cfg.Pack.Block(d)
	if !ok {
		return nil, &content.Missing{Blocks: []content.Digest{d}}
	}
	m, err := content.DecodeManifest(data)
	if err != nil {
		return nil, err
	}
	return content.LoadDirectory(m.Directory, p.cfg.Pack)
}

// Kept gives the manifests of the replaced releases whose content stays, the newest first.
func (p *Publisher) Kept() ([]content.Digest, error) {
	h, err := readHistory(p.path(historyName))
	if err != nil {
		return nil, err
	}
	var kept []content.Digest
	for i := len(h.Replaced) - 1; i >= 0; i-- {
		d, err := content.ParseDigest(h.Replaced[i].Manifest)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", historyName, err)
		}
		kept = append(kept, d)
	}
	return kept, nil
}
