package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"swarmnode/content"
	"swarmnode/content/durable"
	"swarmnode/gossip"
	"swarmnode/node/control"
)

// What is where in the home directory.
const (
	collectionsDir = "collections"     // one directory per collection, named by its ID
	keysDir        = "keys"            // one directory per published collection, named by its name
	recordFile     = "collection.json" // in a collection's directory
	peersFile      = "peers.json"
	bansFile       = "bans.json"
	claimsDir      = "claims.tmp"  // trust state of collections whose claims are being checked
	removedDir     = "removed.tmp" // collections that are being deleted
	recordVersion  = 1
	// maxRecordBootstrap is how many addresses a collection's record keeps; the newest stay.
	maxRecordBootstrap = 8
)

// ErrHomeBusy says that another node uses the home directory.
var ErrHomeBusy = errors.New("a node is already running with this home directory; stop it, or use another with --home")

// record is what a node remembers of a collection beside its content.
type record struct {
	Version   int        `json:"version"`
	ID        content.ID `json:"id"`
	Name      string     `json:"name"`
	Source    string     `json:"source,omitempty"`     // the published directory, or the URL of From; "" for a mirror
	Lifetime  string     `json:"lifetime,omitempty"`   // of a published collection's timestamps, as time.Duration prints it; "" for the default
	CacheOnly bool       `json:"cache_only,omitempty"` // a mirror keeps only what is asked for
	Export    string     `json:"export,omitempty"`     // the directory in which a mirror's content lies as a plain tree
	Bootstrap []string   `json:"bootstrap,omitempty"`  // addresses that the collection was joined by

	Paused control.Paused `json:"paused,omitzero"` // what the operator wants it not to do

	From     *control.From     `json:"from,omitempty"`     // what is published, if that is no directory; its URL has no password
	Triggers *control.Triggers `json:"triggers,omitempty"` // when it is published again by itself
	Scan     *scanning         `json:"scan,omitempty"`     // how, then

	Publisher gossip.PeerID `json:"publisher,omitempty"` // the peer that proved that it publishes the collection: told of bad bytes, never banned
}

// scanning are the choices of a publish that hold for those that follow it.
type scanning struct {
	Exclude []string `json:"exclude,omitempty"`
	SkipBad bool     `json:"skip_bad,omitempty"`
}

// broken is a collection on disk that could not be opened.
type broken struct {
	record record // zero if that was not readable
	err    error
}

func (r record) dir(home string) string { return filepath.Join(home, collectionsDir, r.ID.String()) }

func (r record) write(home string) error {
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := durable.MkdirAll(durable.OS{}, r.dir(home), 0o700); err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(r.dir(home), recordFile), durable.Seal(raw), 0o600)
}

// readRecords lists the collections of the home directory. A directory without a record is one whose making was cut off.
func (n *Node) readRecords() ([]record, error) {
	dirs, err := os.ReadDir(filepath.Join(n.cfg.Home, collectionsDir))
	if err != nil {
		return nil, fmt.Errorf("list collections: %w", err)
	}
	var list []record
	for _, d := range dirs {
		if !d.IsDir() {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(n.cfg.Home, collectionsDir, d.Name(), recordFile))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var r record
		if err == nil {
			raw, err = durable.Unseal(raw)
		}
		if err == nil {
			err = json.Unmarshal(raw, &r)
		}
		if again, ok := n.recordAgain(d.Name(), err); ok {
			n.log.Warn("the record of a mirrored collection was damaged and is made again: look at the disk", "collection", again.ID, "error", err)
			r, err = again, again.write(n.cfg.Home)
		}
		if err == nil && (r.Version != recordVersion || r.ID.String() != d.Name()) {
			err = fmt.Errorf("version %d, collection %s: not written by this version of swarmnode for this directory", r.Version, r.ID)
		}
		if err != nil {
			n.broken[d.Name()] = broken{err: fmt.Errorf("read %s: %w", filepath.Join(collectionsDir, d.Name(), recordFile), err)}
			n.log.Error("a collection cannot be opened: the error says why; repair it and start the node again", "directory", d.Name(), "error", err)
			continue
		}
		list = append(list, r)
	}
	return list, nil
}

// lockHome takes a home directory for this process until the file is closed or the process ends.
func lockHome(home string) (*os.File, error) {
	path := filepath.Join(home, "lock")
	if st, err := os.Stat(path); err == nil {
		if err := checkOwner(home, st); err != nil {
			return nil, err
		}
	}
	f, err := durable.Lock(path)
	switch {
	case errors.Is(err, durable.ErrLocked):
		return nil, fmt.Errorf("%w: %s", ErrHomeBusy, home)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return nil, fmt.Errorf("this user cannot write into the home directory %s: run the command as the user whom it belongs to, or use another with --home: %w", home, err)
	}
	return f, err
}

// recordAgain makes the record of a mirrored collection out of the name of its directory, if err says that its bytes are damaged.
// Of a published one the directory that it publishes is lost with the record.
func (n *Node) recordAgain(name string, err error) (record, bool) {
	var syntax *json.SyntaxError
	if !errors.Is(err, durable.ErrDamaged) && !errors.As(err, &syntax) {
		return record{}, false
	}
	id, err := content.ParseID(name)
	if err != nil {
		return record{}, false
	}
	if _, err := os.Stat(filepath.Join(n.cfg.Home, collectionsDir, name, "segments")); err != nil {
		return record{}, false
	}
	return record{Version: recordVersion, ID: id}, true
}
