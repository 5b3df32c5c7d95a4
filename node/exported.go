package node

import (
	"cmp"
	"fmt"
	"path/filepath"

	"swarmnode/content"
	"swarmnode/node/control"
	"swarmnode/node/export"
	"swarmnode/node/gateway"
)

// exportIndex is where a collection's directory has the index of what lies in an exported tree.
const exportIndex = "export"

// openExport opens the tree in which the content of a mirrored collection lies, if it has one; nil if not. Where it once is, it
// stays: the record remembers the directory.
func (n *Node) openExport(c *collection, f *follower) (*export.Directory, error) {
	r := c.remembered()
	dir := cmp.Or(r.Export, n.cfg.Export)
	if dir == "" || r.CacheOnly {
		return nil, nil
	}
	if n.cfg.Export != "" && n.cfg.Export != dir {
		return nil, elsewhere(r)
	}
	d, err := export.OpenDirectory(export.DirectoryConfig{
		Dir: dir, ID: c.id, Index: filepath.Join(c.dir, exportIndex), Blocks: c.pack, Tables: c.table, Names: gateway.Mutable,
		Log: n.log.With("collection", c.id), Served: f.served,
	})
	if err != nil {
		return nil, err
	}
	if r.Export == "" {
		err = c.remember(n.cfg.Home, func(r *record) { r.Export = dir })
	}
	if err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// elsewhere says that a collection lies in another directory than --export names.
func elsewhere(r record) error {
	return fmt.Errorf("the content of %s lies in %s: start with --export %s, or without --export; "+
		"for another directory take it off with `swarmnode collections remove` and join again", cmp.Or(r.Name, r.ID.String()), r.Export, r.Export)
}

// checkExport refuses, before anything begins, a directory that cannot be exported to.
func (n *Node) checkExport(records []record) error {
	if n.cfg.Export == "" {
		return nil
	}
	dir, err := filepath.Abs(n.cfg.Export)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	n.cfg.Export = dir
	for _, r := range records {
		if r.Export != "" && r.Export != dir {
			return elsewhere(r)
		}
	}
	return export.CheckEmpty(dir)
}

// served is the manifest that is served; nil if there is none.
func (f *follower) served() *content.Manifest {
	if f.mirror == nil {
		return nil
	}
	return f.mirror.Served()
}

func (f *follower) closeExport() error {
	if f.export == nil {
		return nil
	}
	return f.export.Close()
}

// exportBytes is what the exported tree takes beside the chunks that the store counts.
func (f *follower) exportBytes() int64 {
	if f == nil || f.export == nil {
		return 0
	}
	return f.export.Overhead()
}

// exportStatus says how the exported tree stands; nil if there is none.
func (f *follower) exportStatus() (*control.Export, error) {
	if f.export == nil {
		return nil, nil
	}
	s := f.export.Status()
	return &control.Export{Dir: s.Path, Release: s.Release, Bytes: s.Bytes}, s.Trouble
}
