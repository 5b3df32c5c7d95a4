package limit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"swarmnode/content/durable"
	"swarmnode/node/policy"
)

const (
	// aheadLeast is how many bytes more than were sent the file says at least, so that a kill never makes the month longer: it costs
	// the operator's own up to that much. It is written again when they are used up, so an idle node writes next to never.
	aheadLeast = 4 << 20
	// aheadTicks is how many ticks' worth of bytes the file is ahead: with a fast line it is written every so many seconds, not each.
	aheadTicks = 10
	// fileLimit bounds what is read of it: thirteen months are 1 KB.
	fileLimit = 64 << 10
)

// file remembers the months. The caller guards it.
type file struct {
	path     string
	name     string // of the month that it has last
	sent     int64  // that it says were sent in it
	received int64
	before   int64 // sent at the last tick
}

// read gives the months; none without a file.
func (f *file) read() (policy.Months, error) {
	if f.path == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var months policy.Months
	if err == nil && len(raw) > fileLimit {
		err = errors.New("it is far too large")
	}
	if err == nil {
		err = json.Unmarshal(raw, &months)
	}
	for _, m := range months {
		if m.Sent < 0 || m.Received < 0 {
			err = errors.New("it counts less than nothing")
		}
	}
	if err != nil {
		return nil, fmt.Errorf("what was sent this month, in %s, cannot be read: %w; remove the file to count from 0", f.path, err)
	}
	return months, nil
}

// keep writes the file when more was sent than it says, or much was received.
func (f *file) keep(months policy.Months) error {
	if len(months) == 0 {
		return nil
	}
	m := months[len(months)-1]
	if m.Name == f.name && m.Sent <= f.sent && m.Received-f.received < 16*aheadLeast {
		f.before = m.Sent
		return nil
	}
	if m.Sent == 0 && m.Received == 0 {
		return nil
	}
	ahead := aheadLeast + aheadTicks*max(m.Sent-f.before, 0)
	f.before = m.Sent
	return f.write(months, ahead)
}

// write writes the months, the last one with so many bytes more.
func (f *file) write(months policy.Months, ahead int64) error {
	if f.path == "" || len(months) == 0 {
		return nil
	}
	list := append(policy.Months{}, months...)
	last := &list[len(list)-1]
	last.Sent += ahead
	raw, err := json.MarshalIndent(list, "", "  ")
	if err == nil {
		err = durable.WriteFile(f.path, append(raw, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("remember the month: %w", err)
	}
	f.name, f.sent, f.received = last.Name, last.Sent, last.Received
	return nil
}
