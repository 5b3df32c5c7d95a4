package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"swarmnode/content"
	"swarmnode/content/durable"
)

const (
	stateFile    = "mirror.json"
	stateVersion = 1
	// maxKept is how many replaced releases are kept within grace; a publisher that makes more in a day loses the oldest early.
	maxKept = 256
)

// state is what a mirror remembers of itself.
type state struct {
	Version int            `json:"version"`
	Served  content.Digest `json:"-"`
	Text    string         `json:"served,omitempty"` // Served in hexadecimal
	Release uint64         `json:"release,omitempty"`
	Kept    []kept         `json:"kept,omitempty"` // replaced releases within grace, the oldest first
}

// kept is a replaced release whose content stays for a while.
type kept struct {
	Manifest content.Digest `json:"-"`
	Text     string         `json:"manifest"`
	Replaced time.Time      `json:"replaced"`
}

// errDamagedState says that the state is lost. All that it names can be found again: the head is among the trust files.
var errDamagedState = errors.New("the state of the mirror is damaged: it is made again from what is here")

func readState(path string) (state, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return state{Version: stateVersion}, nil
	}
	var s state
	if err == nil {
		data, err = durable.Unseal(data)
		if err != nil || json.Unmarshal(data, &s) != nil {
			return state{Version: stateVersion}, errDamagedState
		}
	}
	if err == nil && s.Version != stateVersion {
		err = fmt.Errorf("version %d is not %d: it was written by another version of swarmnode", s.Version, stateVersion)
	}
	if err == nil && s.Text != "" {
		s.Served, err = content.ParseDigest(s.Text)
	}
	for i := range s.Kept {
		if err == nil {
			s.Kept[i].Manifest, err = content.ParseDigest(s.Kept[i].Text)
		}
	}
	if err != nil {
		return s, fmt.Errorf("read state %s: %w", path, err)
	}
	return s, nil
}

// next is the state once manifest is served instead of what is served now.
func (s state) next(manifest content.Digest, release uint64, now time.Time) state {
	n := state{Version: stateVersion, Served: manifest, Text: manifest.String(), Release: release, Kept: append([]kept(nil), s.Kept...)}
	if !s.Served.IsZero() && s.Served != manifest {
		n.Kept = append(n.Kept, kept{Manifest: s.Served, Text: s.Text, Replaced: now})
	}
	if len(n.Kept) > maxKept {
		n.Kept = n.Kept[len(n.Kept)-maxKept:]
	}
	return n
}

func (s state) write(path string) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(path, durable.Seal(data), 0o644)
}

// clean frees content past its grace from time to time, until ctx ends.
func (m *Mirror) clean(ctx context.Context) {
	tick := time.NewTicker(min(cleanEvery, m.cfg.Grace))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := m.Clean(time.Now()); err != nil {
			m.cfg.Log.Warn("cannot free what is past its grace: look at the disk; it is tried again by itself", "collection", m.cfg.ID, "error", err)
		}
	}
}
