package export

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"swarmnode/content"
	"swarmnode/content/durable"
	"swarmnode/content/store"
)

const (
	// HiddenDir is the directory beside the exported trees that holds what is not finished.
	HiddenDir = ".swarmnode"
	// lookEvery is how often an exported tree is compared with its release by names, sizes and times.
	lookEvery = 10 * time.Minute
	// retryEvery is how often a tree that could not be brought to its release is tried again: a lost chunk is here again in less.
	retryEvery = 2 * time.Second

	directoryFile    = "export.json"
	directoryVersion = 1
)

var (
	// ErrForeign says that a directory holds files that swarmnode has not put there.
	ErrForeign = errors.New("it holds files that swarmnode has not put there: give an empty directory")
	// errLacking says that chunks of a file are not here; who asked for them has had them fetched again.
	errLacking = errors.New("chunks are missing and fetched again")
)

// DirectoryConfig is what a [Directory] works with. All fields but Log are required.
type DirectoryConfig struct {
	Dir    string // the operator's; the tree of a collection is in Dir/NAME
	ID     content.ID
	Index  string // directory for the index of references
	Blocks content.BlockSource
	Tables func(content.Digest) (*content.Table, error)
	Served func() *content.Manifest // nil as long as nothing is served
	Names  func(path string) bool   // whether a file names others, and changes under its name
	Log    *slog.Logger

	crash  func(point string) error                 // asked on the way; tests end there
	stripe int64                                    // default stripe
	sync   func(root *os.Root, dirs []string) error // default syncTree
}

// Directory keeps a plain tree in step with the served release, and is at the same time where the content lies: what is exported is
// moved out of the segments of a [store.Disk], which reads it through References from then on.
//
// A switch from one release to the next: new packages are written, synced and renamed into the tree, a few at a time, and their
// chunks leave the segments. Files that replace others, and indexes, are written aside; chunks that only what they
// replace has go back to the segments for the grace time; then they are all renamed, those that name others last. What the new release
// no longer has stays until the mirror forgets the old one, see Drop. A kill at any moment costs nothing but time: the next switch
// looks at what is there.
type Directory struct {
	cfg   DirectoryConfig
	root  *os.Root
	lock  *os.File
	refs  *store.References
	disk  *store.Disk
	again chan struct{} // there is something to look at

	work sync.Mutex // held by a switch and by Drop; taken before mu

	mu      sync.Mutex // guards all below
	state   directoryState
	midway  bool            // a switch is under way, or was cut off
	doubted map[string]bool // paths in the tree whose bytes are to be looked at
	bytes   int64           // of all files in the tree and aside
	trouble error
}

// directoryState is what is remembered of a Directory, in HiddenDir.
type directoryState struct {
	Version    int      `json:"version"`
	Collection string   `json:"collection"`
	Name       string   `json:"name,omitempty"`    // of the tree in Dir
	Shown      []string `json:"shown,omitempty"`   // manifests of the releases whose files may be in the tree; one when Done
	Release    uint64   `json:"release,omitempty"` // number of the last one that was whole
	Done       bool     `json:"done,omitempty"`    // the last of Shown is whole
	Gone       []string `json:"gone,omitempty"`    // manifests of earlier ones, some of whose files are still there
}

// DirectoryStatus says how a Directory stands.
type DirectoryStatus struct {
	Path    string // of the tree; Dir before it has a name
	Release uint64 // that it shows; 0 for none yet
	Bytes   int64  // of all files in it and aside
	Trouble error  // why it does not get on
}

// OpenDirectory opens the export of one collection. The directory must be empty, missing, or one that was made by this. Follow and
// Run are next.
func OpenDirectory(cfg DirectoryConfig) (*Directory, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.stripe == 0 {
		cfg.stripe, cfg.sync = stripe, syncTree
	}
	if cfg.crash == nil {
		cfg.crash = func(string) error { return nil }
	}
	wrap := func(err error) error { return fmt.Errorf("export to %s: %w", cfg.Dir, full(err)) }
	if err := CheckEmpty(cfg.Dir); err != nil {
		return nil, err
	}
	d := &Directory{cfg: cfg, again: make(chan struct{}, 1), doubted: map[string]bool{}}
	if err := durable.MkdirAll(durable.OS{}, d.aside("part"), 0o700); err != nil {
		return nil, wrap(err)
	}
	var err error
	if d.lock, err = durable.Lock(d.aside("lock")); err != nil {
		return nil, wrap(err)
	}
	if d.root, err = openTarget(cfg.Dir); err == nil {
		err = d.checkLinks()
	}
	if err == nil {
		err = d.readState()
	}
	if err == nil {
		d.refs, err = store.OpenReferences(cfg.Index, cfg.Dir, "", store.Config{Log: cfg.Log, Tables: cfg.Tables,
			OnBad: func(_ content.Ref, path string) { d.doubt(path) }})
	}
	if err != nil {
		return nil, errors.Join(wrap(err), d.Close())
	}
	d.midway = len(d.state.Shown) > 0 && !d.state.Done
	d.bytes = d.measure()
	return d, nil
}

// CheckEmpty refuses a directory to export to that holds files and was not made by swarmnode. The error is ErrForeign.
func CheckEmpty(dir string) error {
	names, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("export to %s: %w", dir, err)
	}
	ours := slices.ContainsFunc(names, func(e fs.DirEntry) bool { return e.Name() == HiddenDir && e.IsDir() })
	if len(names) > 0 && !ours {
		return fmt.Errorf("export to %s: %w", dir, ErrForeign)
	}
	return nil
}

// aside is the place of something in HiddenDir.
func (d *Directory) aside(what string) string { return filepath.Join(d.cfg.Dir, d.hidden(what)) }

// hidden is the same relative to Dir.
func (d *Directory) hidden(what string) string {
	return HiddenDir + "/" + d.cfg.ID.String() + "/" + what
}

// checkLinks refuses file systems without hard links, by which a file is in the tree and aside until its references are moved.
func (d *Directory) checkLinks() error {
	one, two := d.hidden("part/one"), d.hidden("part/two")
	f, err := d.root.OpenFile(one, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	f.Close()
	defer d.root.Remove(one)
	_ = d.root.Remove(two)
	parts, err := d.root.OpenRoot(d.hidden("part"))
	if err != nil {
		return err
	}
	defer parts.Close()
	if same, err := folds(parts); err != nil || same {
		return errors.Join(err, errors.New("the file system takes upper and lower case for the same, but the names of a release do not"))
	}
	if err := d.root.Link(one, two); err != nil {
		return fmt.Errorf("the file system has no hard links, which --export needs: %w", err)
	}
	return d.root.Remove(two)
}

func (d *Directory) readState() error {
	fresh := directoryState{Version: directoryVersion, Collection: d.cfg.ID.String()}
	raw, err := os.ReadFile(d.aside(directoryFile))
	if errors.Is(err, fs.ErrNotExist) {
		d.state = fresh
		return nil
	}
	if err == nil {
		raw, err = durable.Unseal(raw)
	}
	if err == nil {
		err = json.Unmarshal(raw, &d.state)
	}
	if err == nil && (d.state.Version != directoryVersion || d.state.Collection != fresh.Collection) {
		err = fmt.Errorf("version %d, collection %s: not written by this version of swarmnode for this collection", d.state.Version, d.state.Collection)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", directoryFile, err)
	}
	return nil
}

// remember changes the state, here and on disk.
func (d *Directory) remember(change func(*directoryState)) error {
	d.mu.Lock()
	st := d.state
	d.mu.Unlock()
	st.Shown, st.Gone = slices.Clone(st.Shown), slices.Clone(st.Gone)
	change(&st)
	raw, err := json.MarshalIndent(st, "", "  ")
	if err == nil {
		err = durable.WriteFile(d.aside(directoryFile), durable.Seal(raw), 0o600)
	}
	if err != nil {
		return full(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.state = st
	d.midway = len(st.Shown) > 0 && !st.Done
	return nil
}

// References are where the exported chunks lie, for the Disk.
func (d *Directory) References() *store.References { return d.refs }

// Follow says which store the chunks come from. It is called once, before Run.
func (d *Directory) Follow(disk *store.Disk) { d.disk = disk }

// Poke has the tree looked at: another release is served.
func (d *Directory) Poke() {
	select {
	case d.again <- struct{}{}:
	default:
	}
}

// doubt has the file at a path below Dir looked at. It does not wait.
func (d *Directory) doubt(path string) {
	d.mu.Lock()
	if len(d.doubted) < maxDoubted {
		d.doubted[path] = true
	}
	d.mu.Unlock()
	d.Poke()
}

// maxDoubted bounds the paths that wait to be looked at; what is not among them is found by the scrub again.
const maxDoubted = 100_000

// Overhead is how many bytes the export takes beside those that the Disk counts: content that is in several files.
func (d *Directory) Overhead() int64 {
	moved := int64(0)
	if d.disk != nil {
		moved = d.disk.MovedBytes()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return max(0, d.bytes-moved)
}

// Status says how the export stands.
func (d *Directory) Status() DirectoryStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	return DirectoryStatus{Path: filepath.Join(d.cfg.Dir, d.state.Name), Release: d.state.Release, Bytes: d.bytes, Trouble: d.trouble}
}

// measure adds up the sizes of all files of the tree and aside.
func (d *Directory) measure() (total int64) {
	dirs := []string{d.aside("part")}
	if d.state.Name != "" {
		dirs = append(dirs, filepath.Join(d.cfg.Dir, d.state.Name))
	}
	for _, dir := range dirs {
		_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
			if err == nil && e.Type().IsRegular() {
				if info, err := e.Info(); err == nil {
					total += info.Size()
				}
			}
			return nil // what vanishes or cannot be read takes no room that could be known
		})
	}
	return total
}

// Run keeps the tree in step until ctx ends.
func (d *Directory) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		err := d.look(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var retry <-chan time.Time
		if err != nil {
			retry = time.After(retryEvery)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-d.again:
		case <-retry:
		case <-tick.C:
		}
	}
}

// look brings the tree to the served release, if there is one.
func (d *Directory) look(ctx context.Context) error {
	m := d.cfg.Served()
	if m == nil {
		return nil
	}
	d.work.Lock()
	err := d.bring(ctx, m)
	d.work.Unlock()
	d.mu.Lock()
	told := d.trouble != nil && err != nil && d.trouble.Error() == err.Error()
	d.trouble = err
	d.mu.Unlock()
	if err != nil && !told && ctx.Err() == nil {
		d.cfg.Log.Warn("the exported tree is not up to date: it is tried again, do what the error says if it stays", "directory", d.cfg.Dir, "release", m.Release, "error", err)
	}
	return err
}

// Close lets go of the directory, after Run.
func (d *Directory) Close() error {
	var errs []error
	if d.refs != nil {
		errs = append(errs, d.refs.Close())
	}
	if d.root != nil {
		errs = append(errs, d.root.Close())
	}
	return errors.Join(append(errs, d.lock.Close())...)
}
