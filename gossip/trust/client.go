package trust

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"path"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"swarmnode/gossip"
)

// Limits of a stock repository; those of the specification's reference client where it has one.
const (
	maxStockSnapshot = 2_000_000
	maxStockTargets  = 5_000_000
	// maxVisited is the most roles in which one target is looked for.
	maxVisited = 32
	// MaxTarget is the largest target that a Client downloads, in bytes: it is held in memory.
	MaxTarget = 64 << 20
)

// Client follows any TUF repository, not only a collection's, by the same workflow. Its directory has the newest verified
// ROLE.json of each role, by which the next Client goes on. It is not safe for concurrent use.
type Client struct {
	folder folder
	src    Source
	work   workflow
	panics uint64
}

// InitClient makes dir and puts a root into it that the caller trusts.
func InitClient(dir string, root []byte) (err error) {
	var panics uint64
	defer recovered(&panics, &err)
	if err := new(workflow).firstRoot(root); err != nil {
		return fmt.Errorf("trusted root: %w", err)
	}
	f, err := openFolder(dir, 0o755)
	if err != nil {
		return err
	}
	return f.write(roleFile(roleRoot), root, 0o644)
}

// OpenClient goes on from the root in dir. Metadata come from src, which is asked for "3.root.json", "timestamp.json" and
// the like, with role names as they are; what is not there it has to answer with fs.ErrNotExist.
func OpenClient(dir string, now time.Time, src Source) (c *Client, err error) {
	c = &Client{folder: folder{dir: dir}, src: src, work: workflow{now: now}}
	defer recovered(&c.panics, &err)
	raw, err := c.folder.read(roleFile(roleRoot))
	if err != nil {
		return nil, err
	}
	if err := c.work.firstRoot(raw); err != nil {
		return nil, fmt.Errorf("trusted root: %w", err)
	}
	return c, nil
}

// roleFile names the file of a role such that no role name leaves the directory.
func roleFile(role string) string { return url.PathEscape(role) + ".json" }

// Refresh runs the workflow down to the top-level targets.
func (c *Client) Refresh(ctx context.Context) (err error) {
	defer recovered(&c.panics, &err)
	if err := c.roots(ctx); err != nil {
		return err
	}
	c.load()
	if err := c.timestamp(ctx); err != nil {
		return err
	}
	if err := c.snapshot(ctx); err != nil {
		return err
	}
	_, err = c.targets(ctx, roleTargets, roleRoot)
	return err
}

func (c *Client) roots(ctx context.Context) error {
	for range MaxNewRoots {
		old, name := c.work.root, versioned(c.work.rootVersion()+1, roleRoot)
		raw, err := pull(ctx, c.src, name, MaxRoot)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return err
		}
		if err := c.work.nextRoot(raw); err != nil {
			return err
		}
		if rotated(old, c.work.root) { // before the root is kept: a crash in between forgets too much, not too little
			c.folder.sweep(func(name string) bool { return name != timestampFile && name != roleFile(roleSnapshot) })
		}
		if err := c.folder.write(roleFile(roleRoot), raw, 0o644); err != nil {
			return err
		}
	}
	if c.work.root.Signed.IsExpired(c.work.now) {
		return fmt.Errorf("root %d: %w", c.work.rootVersion(), gossip.ErrExpired)
	}
	return nil
}

// load takes what the last run left, as the floor under what comes: expired is good enough for that, but the signatures
// have to be right under the newest root.
func (c *Client) load() {
	at := c.work
	at.now = time.Time{}
	if raw, err := c.folder.read(timestampFile); err == nil && at.takeTimestamp(raw) == nil {
		c.work.timestamp = at.timestamp
	}
	raw, err := c.folder.read(roleFile(roleSnapshot))
	if err != nil {
		return
	}
	// The timestamp may name a newer one already, if the last run ended between the two.
	if _, err := peek(raw, roleSnapshot, maxStockSnapshot); err != nil {
		return
	}
	if m, err := metadata.Snapshot().FromBytes(raw); err == nil && c.work.root.VerifyDelegate(roleSnapshot, m) == nil {
		c.work.snapshot = m
	}
}

func (c *Client) timestamp(ctx context.Context) error {
	raw, err := pull(ctx, c.src, timestampFile, MaxTimestamp)
	if err != nil {
		return err
	}
	err = c.work.takeTimestamp(raw)
	if errors.Is(err, &metadata.ErrEqualVersionNumber{}) {
		if c.work.timestamp.Signed.IsExpired(c.work.now) {
			return fmt.Errorf("%s: %w", timestampFile, gossip.ErrExpired)
		}
		return nil
	}
	if err != nil {
		return err
	}
	return c.folder.write(timestampFile, raw, 0o644)
}

func (c *Client) snapshot(ctx context.Context) error {
	entry := c.work.timestamp.Signed.Meta[roleSnapshot+".json"]
	return c.file(ctx, roleSnapshot, entry, maxStockSnapshot, func(raw []byte) error { return c.work.takeSnapshot(raw, maxStockSnapshot) })
}

// file takes the file of a role that an entry names: the one that is here if it is still the right one, else it is asked for.
func (c *Client) file(ctx context.Context, role string, entry *metadata.MetaFiles, limit int64, take func([]byte) error) error {
	name := roleFile(role)
	if raw, err := c.folder.read(name); err == nil && take(raw) == nil {
		return nil
	}
	if entry.Length > 0 {
		limit = min(limit, entry.Length)
	}
	remote := role + ".json"
	if c.work.root.Signed.ConsistentSnapshot {
		remote = versioned(entry.Version, role)
	}
	raw, err := pull(ctx, c.src, remote, limit)
	if err != nil {
		return err
	}
	if err := take(raw); err != nil {
		return err
	}
	return c.folder.write(name, raw, 0o644)
}

func (c *Client) targets(ctx context.Context, role, delegator string) (*metadata.Metadata[metadata.TargetsType], error) {
	if m := c.work.targets[role]; m != nil {
		return m, nil
	}
	entry := c.work.snapshot.Signed.Meta[role+".json"]
	if entry == nil {
		return nil, fmt.Errorf("%w: the snapshot has no entry for %.80q", gossip.ErrMalformed, role)
	}
	err := c.file(ctx, role, entry, maxStockTargets, func(raw []byte) error { return c.work.takeTargets(raw, role, delegator, maxStockTargets) })
	return c.work.targets[role], err
}

// Target is a file that a repository vouches for.
type Target struct {
	Path   string // in the repository
	Length int64
	hashes metadata.Hashes
	prefix bool // its remote name begins with its hash
}

// Names gives the remote names under which the target may be found: with consistent snapshots one for each hash.
func (t Target) Names() []string {
	if !t.prefix {
		return []string{t.Path}
	}
	dir, base := path.Split(t.Path)
	var names []string
	for _, kind := range slices.Sorted(maps.Keys(t.hashes)) {
		names = append(names, dir+hex.EncodeToString(t.hashes[kind])+"."+base)
	}
	return names
}

// Check tells whether data is the target: its length and every hash that is given.
func (t Target) Check(data []byte) error {
	if int64(len(data)) != t.Length || len(t.hashes) == 0 {
		return fmt.Errorf("target %.80q: %w: %d bytes, want %d", t.Path, gossip.ErrMalformed, len(data), t.Length)
	}
	for kind, want := range t.hashes {
		var got []byte
		switch kind {
		case "sha256":
			sum := sha256.Sum256(data)
			got = sum[:]
		case "sha512":
			sum := sha512.Sum512(data)
			got = sum[:]
		}
		if !bytes.Equal(got, want) || got == nil {
			return fmt.Errorf("target %.80q: %w: another %.20s", t.Path, gossip.ErrMalformed, kind)
		}
	}
	return nil
}

// Target looks for a target in pre-order through the delegations (specification section 5.6.7); Refresh comes first. What is
// in none of the first 32 roles is fs.ErrNotExist.
func (c *Client) Target(ctx context.Context, name string) (_ Target, err error) {
	defer recovered(&c.panics, &err)
	type step struct{ role, delegator string }
	todo, visited := []step{{roleTargets, roleRoot}}, map[string]bool{}
	for len(todo) > 0 && len(visited) < maxVisited {
		at := todo[0]
		todo = todo[1:]
		if visited[at.role] {
			continue
		}
		visited[at.role] = true
		m, err := c.targets(ctx, at.role, at.delegator)
		if err != nil {
			return Target{}, err
		}
		if f := m.Signed.Targets[name]; f != nil {
			return Target{Path: name, Length: f.Length, hashes: f.Hashes, prefix: c.work.root.Signed.ConsistentSnapshot}, nil
		}
		roles, last := delegated(m.Signed.Delegations, name)
		var next []step
		for _, r := range roles {
			next = append(next, step{r, at.role})
		}
		if last {
			todo = nil
		}
		todo = append(next, todo...)
	}
	return Target{}, fmt.Errorf("target %.80q: %w", name, fs.ErrNotExist)
}

// delegated gives the roles that a targets file delegates a path to, in its order, up to the first terminating one; last
// reports whether there was one: then no other role of the repository is asked.
func delegated(d *metadata.Delegations, name string) (roles []string, last bool) {
	switch {
	case d == nil:
	case d.Roles != nil:
		for _, r := range d.Roles {
			if !delegates(&r, name) {
				continue
			}
			roles = append(roles, r.Name)
			if r.Terminating {
				return roles, true
			}
		}
	case d.SuccinctRoles != nil:
		for _, r := range d.SuccinctRoles.GetRolesForTarget(name) {
			roles = append(roles, r.Name)
		}
		return roles, true
	}
	return roles, false
}
