package publish

import (
	"swarmnode/content"
)

// nextSnapshotName is the snapshot of a release that is about to be signed.
const nextSnapshotName = snapshotName + ".next"

// keepSnapshot makes what the scan saw the snapshot of the release with this tree. The release is signed by now, so trouble
// ends here: it costs hashing all files the next time.
func (r *run) keepSnapshot(tree content.Digest) {
	if err := r.writeSnapshot(tree); err != nil {
		r.cfg.Log.Warn("the next publish hashes all files again and takes longer: look at the disk of the home directory", "error", err)
	}
}

// writeSnapshot puts the snapshot of the release with this tree in force.
func (r *run) writeSnapshot(tree content.Digest) error {
	name := r.path(snapshotName + ".new")
	if r.pull != nil && r.saved {
		name = r.path(nextSnapshotName)
	} else if err := r.createSnapshot(name, tree); err != nil {
		return err
	}
	if err := r.crash("snapshot"); err != nil {
		return err
	}
	return replaceFile(name, r.path(snapshotName))
}

// saveSnapshot writes, for an origin, the snapshot of a release before it is signed: after a kill between the two all files would
// be fetched again, which costs more than hashing them.
func (r *run) saveSnapshot(tree content.Digest) error {
	if r.pull == nil {
		return nil
	}
	if err := r.createSnapshot(r.path(snapshotName+".new"), tree); err != nil {
		return err
	}
	r.saved = true
	return replaceFile(r.path(snapshotName+".new"), r.path(nextSnapshotName))
}

// createSnapshot does not vouch for files that were different when they were read.
func (r *run) createSnapshot(name string, tree content.Digest) error {
	out, err := createSnapshot(name)
	if err != nil {
		return err
	}
	if r.pull != nil {
		out.addMemo(r.memo())
	}
	ctimes := r.placer.ctimes
	for rec, err := range r.changes.seen.records() {
		if err != nil {
			out.file.Close()
			return err
		}
		if rec.changed {
			if r.pull != nil && r.leftOut(rec.Path) {
				continue
			}
			if ctimes[0] != asScanned {
				rec.Ctime = ctimes[0]
			}
			ctimes = ctimes[1:]
			if r.pull != nil {
				rec.Heavy = rec.Heavy || r.heavies[rec.Path]
			}
		}
		out.add(&rec.File, false, false)
	}
	return out.finish(tree, true)
}

// openPrevious opens the snapshot of the release with this tree.
func (p *Publisher) openPrevious(tree content.Digest) (*snapshot, error) {
	s, err := openSnapshot(p.path(snapshotName))
	if err == nil && s.tree == tree || p.cfg.Origin == nil {
		return s, err
	}
	if next, nerr := openSnapshot(p.path(nextSnapshotName)); nerr == nil && next.tree == tree {
		return next, nil
	}
	return s, err
}
