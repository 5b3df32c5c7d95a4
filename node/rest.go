package node

import (
	"io/fs"
	"path/filepath"
	"strings"
	"sync/atomic"

	"swarmnode/content/store"
)

// rest is what the home directory holds beside the chunks and metadata of collections that count them as they come, see counts: signed
// files, journals, a publisher's index, what is remembered of peers, logs. The disk given is for all of it.
type rest struct {
	home  string
	bytes atomic.Int64
}

// blockSize is what file systems give to a file at a time, nearly all of them.
const blockSize = 4096

// measure counts anew. What cannot be read counts nothing: it is going, or somebody else's.
func (r *rest) measure(counted func(dir string) bool) {
	var all int64
	_ = filepath.WalkDir(r.home, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if d.IsDir() {
			if d.Name() == "links" { // of published files: no copies
				return fs.SkipDir
			}
			return nil
		}
		if d.Type().IsRegular() && !isCounted(path, counted) {
			if info, err := d.Info(); err == nil {
				all += (info.Size() + blockSize - 1) / blockSize * blockSize
			}
		}
		return nil
	})
	r.bytes.Store(all)
}

// isCounted reports whether a file is the pack or a segment of a collection that counts these itself. counted says which do, by the
// name of their directory.
func isCounted(path string, counted func(dir string) bool) bool {
	dir, name := filepath.Split(path)
	dir = filepath.Clean(dir)
	switch {
	case name == packFile:
		return counted(filepath.Base(dir))
	case filepath.Base(dir) == arrivalsDir: // its logs are small and go
		return counted(filepath.Base(filepath.Dir(dir)))
	case strings.HasSuffix(dir, filepath.Join(segmentsDir, store.SegmentsDir)): // the journal is one above
		return counted(filepath.Base(filepath.Dir(filepath.Dir(dir))))
	}
	return false
}

// measureRest counts what the home holds beside what collections count themselves.
func (n *Node) measureRest() {
	counting := map[string]bool{}
	for _, c := range n.all() {
		if c.counts() {
			counting[filepath.Base(c.dir)] = true
		}
	}
	n.rest.measure(func(dir string) bool { return counting[dir] })
}
