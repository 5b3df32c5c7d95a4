package trust

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"time"

	"swarmnode/content"
	"swarmnode/content/durable"
	"swarmnode/content/guard"
	"swarmnode/gossip"
)

// Repository is what a node has verified of one collection, durable in a directory. It answers with the errors of
// package gossip and implements gossip.Verifier. It is safe for concurrent use.
//
// The clock floor: a node whose clock went back would take expired files for valid ones, so the repository never
// believes a time before the newest signing time that it verified; the floor is kept on disk. A publisher's clock may be
// wrong, too, so the floor is never raised to more than MaxClockStep beyond this node's own clock.
//
// On disk: every N.root.json, the current N.snapshot.json, N.targets.json and N.release.json, state.json (clock floor and
// newest head) and timestamp.json. The timestamp is written last and commits the rest: until then the old set is whole,
// and after a crash the same bundle is simply accepted again.
type Repository struct {
	id     content.ID
	folder folder

	mu    sync.Mutex // guards all below
	set   *trusted
	head  gossip.Head
	clock time.Time // the clock floor
	alarm *Alarm    // never changed once made
	seen  map[string]time.Time
	stats Stats
}

// Stats counts what should not happen.
type Stats struct {
	Panics  uint64 // of the verifier on some input; each was answered as malformed
	Damaged uint64 // files on disk that did not verify at Open and were left aside
}

// stateFile keeps what must survive even the loss of the TUF files.
const stateFile = "state.json"

// state is the content of stateFile.
type state struct {
	Clock time.Time
	Head  *gossip.Head `json:",omitempty"`
	Alarm *Alarm       `json:",omitempty"`
	// Seen is when each current file but the timestamp was first verified here, by name.
	Seen map[string]time.Time `json:",omitempty"`
}

// Open reads the state of the collection in dir, which is made if need be. Files that do not verify are left aside, as
// they can be pulled again; the error is about the disk.
func Open(dir string, id content.ID) (*Repository, error) {
	f, err := openFolder(dir, 0o755)
	if err != nil {
		return nil, fmt.Errorf("open trust state of %s: %w", id, err)
	}
	r := &Repository{id: id, folder: f, set: &trusted{files: map[string][]byte{}}}
	if err := r.load(); err != nil {
		return nil, fmt.Errorf("open trust state of %s: %w", id, err)
	}
	return r, nil
}

func (r *Repository) load() error {
	raw, err := r.folder.read(stateFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var st state
	if err == nil {
		if raw, err = durable.Unseal(raw); err != nil || json.Unmarshal(raw, &st) != nil {
			r.stats.Damaged++
			st = state{}
		}
	}
	r.clock, r.alarm, r.seen = st.Clock, st.Alarm, st.Seen
	if st.Head != nil && st.Head.Collection == r.id {
		r.head = *st.Head
	}
	for v := int64(1); ; v++ {
		raw, err := r.folder.read(versioned(v, roleRoot))
		if err != nil {
			break
		}
		if err := r.addRoot(raw, false); err != nil {
			r.stats.Damaged++
			break
		}
	}
	if raw, err = r.folder.read(timestampFile); err != nil {
		return nil // nothing yet
	}
	// The zero time makes nothing expired: what was verified once is still what this node knows.
	set, err := complete(timestampFile, raw, func(files map[string][]byte) (*trusted, error) {
		return r.verify(time.Time{}, gossip.Head{}, files)
	}, func(name string, _ int64) ([]byte, error) { return r.folder.read(name) })
	if err != nil {
		r.stats.Damaged++
		return nil
	}
	r.set = set
	if r.head.Release < set.head.Release || set.head.After(r.head) {
		r.head = set.head
	}
	r.folder.sweep(func(name string) bool { return name == stateFile || set.files[name] != nil || !ours(name) })
	return nil
}

// ours reports whether a file name is one of those that this package writes and may remove.
func ours(name string) bool {
	return len(name) > len(tempPrefix) && name[:len(tempPrefix)] == tempPrefix || gossip.IsFileName(name)
}

// Verify checks a bundle against all that was verified before. If it is newer and valid it becomes the state, durable
// before Verify returns, and the head that it names is returned. Errors wrap the sentinels of package gossip; a file that
// has to be pulled first is an [*IncompleteError]. Any other error is trouble with the disk.
func (r *Repository) Verify(now time.Time, b gossip.Bundle) (gossip.Head, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	size := 0
	for _, data := range b.Files {
		size += len(data)
	}
	if len(b.Files) > gossip.MaxBundleFiles || size > gossip.MaxBundle {
		return gossip.Head{}, fmt.Errorf("%w: %d files of %d bytes in a bundle", gossip.ErrMalformed, len(b.Files), size)
	}
	set, err := r.verify(r.floored(now), r.head, b.Files)
	if err != nil {
		return gossip.Head{}, fmt.Errorf("verify bundle: %w", r.note(now, err))
	}
	if err := r.commit(now, set); err != nil {
		return gossip.Head{}, fmt.Errorf("keep verified bundle: %w", err)
	}
	return r.head, nil
}

// verify runs the walk. A panic in there is a bug of the TUF library that somebody has found; it must not take the node
// down.
func (r *Repository) verify(now time.Time, floor gossip.Head, files map[string][]byte) (set *trusted, err error) {
	defer recovered(&r.stats.Panics, &err)
	return verify(r.id, now, r.set, floor, files)
}

func (r *Repository) floored(now time.Time) time.Time {
	if guard.On(guard.ClockFloor) && now.Before(r.clock) {
		return r.clock
	}
	return now
}

// commit makes a verified set the state. The bytes are copied, as the caller owns the bundle.
func (r *Repository) commit(now time.Time, set *trusted) error {
	clock := r.clock
	if t := minTime(set.head.Signed, now.Add(MaxClockStep)); t.After(clock) && guard.On(guard.ClockKept) {
		clock = t
	}
	files := maps.Clone(set.files)
	if !guard.On(guard.TimestampLast) {
		if err := r.folder.write(timestampFile, files[timestampFile], 0o644); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if bytes.Equal(r.set.files[name], files[name]) {
			files[name] = r.set.files[name]
			continue
		}
		files[name] = bytes.Clone(files[name])
		if name == timestampFile {
			continue
		}
		if err := r.folder.write(name, files[name], 0o644); err != nil {
			return err
		}
	}
	alarm := r.alarm
	if alarm != nil && alarm.over(set) {
		alarm = nil
	}
	seen := seenBy(r.seen, set, now)
	if err := r.keepState(state{Clock: clock, Head: &set.head, Alarm: alarm, Seen: seen}); err != nil {
		return err
	}
	if err := r.folder.write(timestampFile, files[timestampFile], 0o644); err != nil {
		return err
	}
	next := *set
	next.files = files
	old := r.set
	r.set, r.head, r.clock, r.alarm, r.seen = &next, set.head, clock, alarm, seen
	for name := range old.files {
		if files[name] == nil {
			r.folder.sweep(func(n string) bool { return n == stateFile || files[n] != nil || !ours(n) })
			break
		}
	}
	return nil
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// addRoot verifies the next root and makes it the newest one. If it replaces the keys of timestamp or snapshot, versions
// signed with the old keys no longer hold back new ones (TUF specification section 5.3.11).
func (r *Repository) addRoot(raw []byte, durable bool) (err error) {
	defer recovered(&r.stats.Panics, &err)
	next := *r.set
	if err := next.chainRoot(r.id, raw); err != nil {
		return err
	}
	name := versioned(next.rootVersion(), roleRoot)
	raw = bytes.Clone(raw)
	if durable {
		if err := r.folder.write(name, raw, 0o644); err != nil {
			return err
		}
	}
	next.files = maps.Clone(r.set.files)
	next.files[name] = raw
	if next.timestamp == nil {
		// The head stays: a release number that was verified once is never gone behind.
		maps.DeleteFunc(next.files, func(name string, _ []byte) bool { _, isRoot := rootVersion(name); return !isRoot })
	}
	r.set = &next
	return nil
}

// Head is the newest release that was ever verified, expired or not; its Release is 0 as long as there is none.
func (r *Repository) Head() gossip.Head {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.head
}

// Stats tells what should not have happened since Open.
func (r *Repository) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stats
}

// Bundle gives the current files without the roots, fs.ErrNotExist if there are none. It may be expired.
func (r *Repository) Bundle() (gossip.Bundle, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.set.bundle()
}

func (t *trusted) bundle() (gossip.Bundle, error) {
	b := gossip.Bundle{Files: map[string][]byte{}}
	for name, raw := range t.files {
		if _, isRoot := rootVersion(name); !isRoot {
			b.Files[name] = bytes.Clone(raw)
		}
	}
	if b.Files[timestampFile] == nil {
		return gossip.Bundle{}, fmt.Errorf("no release is known yet: %w", fs.ErrNotExist)
	}
	return b, nil
}

// File gives a file by its name to whoever asks: every "N.root.json", "timestamp.json", the current
// "N.snapshot.json", "N.targets.json" and "N.release.json", and "bundle", the encoded Bundle. What is not here is
// fs.ErrNotExist.
func (r *Repository) File(name string) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.set.file(name)
}

func (t *trusted) file(name string) ([]byte, error) {
	if name == BundleFile {
		b, err := t.bundle()
		if err != nil {
			return nil, err
		}
		return gossip.EncodeBundle(b)
	}
	raw, ok := t.files[name]
	if !ok {
		return nil, fmt.Errorf("trust file %.80q: %w", name, fs.ErrNotExist)
	}
	return bytes.Clone(raw), nil
}
