package trust

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"swarmnode/content/durable"
)

// Scrub compares the files on disk with what was verified, which is in memory, and writes those anew that differ. It says how
// many were looked at and how many were damaged.
func (r *Repository) Scrub() (checked, damaged int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.set.head.Release == 0 {
		return 0, 0, nil // nothing verified yet, or what was is damaged and asked for again
	}
	want := map[string][]byte{}
	for name, raw := range r.set.files {
		want[name] = raw
	}
	raw, err := json.Marshal(r.state())
	if err != nil {
		return 0, 0, err
	}
	want[stateFile] = durable.Seal(raw)
	var errs []error
	for name, raw := range want {
		checked++
		if got, err := r.folder.read(name); err == nil && bytes.Equal(got, raw) {
			continue
		}
		damaged++
		if err := r.folder.write(name, raw, 0o644); err != nil {
			errs = append(errs, fmt.Errorf("mend trust file: %w", err))
		}
	}
	return checked, damaged, errors.Join(errs...)
}
