package gateway

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"swarmnode/content"
	"swarmnode/gossip/trust"
)

// tuf remembers signed files and lists of checksums, so that a client in the middle of an update finds what the timestamp it has
// read names, also when a newer one comes.
type tuf struct {
	files *recent[signedKey, []byte]
	sums  *recent[signedKey, content.Digest] // of the lists of checksums: who asks for another hash costs no list
}

// signedKey names a signed file, or, by the root of the tree, its list of checksums.
type signedKey struct {
	id   content.ID
	name string
	tree content.Digest
}

// tufBytes bounds what is remembered: 4 lists of the largest size, or the files of a hundred releases with all the targets they can have.
const tufBytes = 8 * (content.MaxSums + 64)

// sumsListed is how many releases' lists are known by their hash: those of all collections with as many releases as a mirror keeps.
const sumsListed = 4096

func newTUF() tuf {
	return tuf{files: newRecent[signedKey, []byte](tufBytes), sums: newRecent[signedKey, content.Digest](sumsListed)}
}

const (
	timestampName = "timestamp.json"
	// foreverCached is for what has its version or its hash in its name.
	foreverCached = "public, max-age=31536000, immutable"
	// manifestDir is where the manifests are among the targets.
	manifestDir = "release"
)

// signedName matches the names of metadata files as clients ask for them with consistent snapshots (TUF specification, section 6.2).
var signedName = regexp.MustCompile(`^[1-9][0-9]{0,18}\.(root|snapshot|targets|release)\.json$`)

// serveMetadata answers metadata/NAME and targets/DIRECTORY/SHA256.NAME of a collection, as a TUF client asks for them: so it verifies
// what the release vouches for without knowing anything of manifests.
func (g *Gateway) serveMetadata(w http.ResponseWriter, r *http.Request, c *Collection, rest string) {
	if name, ok := strings.CutPrefix(rest, "metadata/"); ok {
		g.serveSigned(w, r, c, name)
		return
	}
	dir, base := path.Split(strings.TrimPrefix(rest, "targets/"))
	digits, name, _ := strings.Cut(base, ".")
	sum, err := hex.DecodeString(digits)
	if err != nil || len(sum) != len(content.Digest{}) || name == "" || digits != strings.ToLower(digits) {
		fail(w, http.StatusNotFound, "The name of a target begins with its SHA-256 and a dot, as in targets/tree/iso/SHA256.NAME.")
		return
	}
	g.serveTarget(w, r, c, strings.TrimSuffix(dir, "/"), name, content.Digest(sum))
}

// serveSigned answers a signed file. Expired ones are served as well: the date is in them, and who follows TUF reads it.
func (g *Gateway) serveSigned(w http.ResponseWriter, r *http.Request, c *Collection, name string) {
	key := signedKey{id: c.ID, name: name}
	cache := foreverCached
	switch {
	case name == timestampName:
		cache = "public, no-cache"
	case !signedName.MatchString(name):
		fail(w, http.StatusNotFound, "Here are timestamp.json and, by their versions, N.root.json, N.snapshot.json, N.targets.json and N.release.json.")
		return
	}
	data, err := c.Metadata(name)
	if errors.Is(err, fs.ErrNotExist) {
		if old, ok := g.tuf.files.get(key); ok {
			data, err = old, nil
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) && name == timestampName:
		unavailable(w, retryAfter, fmt.Sprintf("This mirror has not verified anything of %s yet. Try again in a moment.", c.Name))
		return
	case errors.Is(err, fs.ErrNotExist):
		fail(w, http.StatusNotFound, fmt.Sprintf("This mirror has no %s of %s: it may be older than what it has, or not signed yet.", name, c.Name))
		return
	case err != nil:
		g.cfg.Log.Warn("a signed file cannot be read: look at the disk, start the node again", "collection", c.ID, "file", name, "error", err)
		unavailable(w, retryAfter, "This mirror cannot read the file now. Try again in a moment, or take another mirror.")
		return
	}
	if name == timestampName {
		g.holdSigned(c, data)
	}
	sendBytes(w, r, data, "application/json", cache)
}

// holdSigned remembers the files that a timestamp leads to, as its reader asks for them next.
func (g *Gateway) holdSigned(c *Collection, timestamp []byte) {
	hold := func(raw []byte, roles ...string) (next []byte) {
		var m struct {
			Signed struct {
				Meta map[string]struct{ Version uint64 }
			}
		}
		if json.Unmarshal(raw, &m) != nil {
			return nil // it was verified, so this cannot be; its reader will say what is wrong
		}
		for _, role := range roles {
			name := strconv.FormatUint(m.Signed.Meta[role+".json"].Version, 10) + "." + role + ".json"
			key := signedKey{id: c.ID, name: name}
			if old, ok := g.tuf.files.get(key); ok {
				next = old
				continue
			}
			data, err := c.Metadata(name)
			if err != nil {
				continue // a newer one has come in between: its reader starts anew
			}
			g.tuf.files.put(key, data, len(data)+len(name))
			next = data
		}
		return next
	}
	if snapshot := hold(timestamp, "snapshot"); snapshot != nil {
		hold(snapshot, "targets", "release")
	}
}

// serveTarget answers a target: a manifest, a list of checksums, or a file of the tree, of any release that can still be served. The hash
// is in its name, so whatever is answered is what was asked for.
func (g *Gateway) serveTarget(w http.ResponseWriter, r *http.Request, c *Collection, dir, name string, sum content.Digest) {
	releases := c.all()
	for _, rel := range releases {
		done, err := g.serveTargetOf(w, r, c, rel, dir, name, sum)
		if err != nil {
			g.failLookup(w, r, c, name, err)
			return
		}
		if done {
			return
		}
	}
	if len(releases) == 0 || c.Newest > c.Served.Manifest.Release {
		unavailable(w, retryAfter, fmt.Sprintf("This mirror is still fetching release %d of %s. Try again in a moment, or take another mirror.", c.Newest, c.Name))
		return
	}
	fail(w, http.StatusNotFound, fmt.Sprintf("No release of %s that this mirror has holds a target of this name and hash.", c.Name))
}

// all lists the releases that can be served, the served one first.
func (c *Collection) all() []*Release {
	if c.Served == nil {
		return nil
	}
	return append([]*Release{c.Served}, c.Kept...)
}

// serveTargetOf answers a target if this release has it.
func (g *Gateway) serveTargetOf(w http.ResponseWriter, r *http.Request, c *Collection, rel *Release, dir, name string, sum content.Digest) (bool, error) {
	if dir == manifestDir {
		data := rel.Manifest.Encode()
		if name != rel.Manifest.Name || content.Sum(data) != sum {
			return false, nil
		}
		sendBytes(w, r, data, "application/cbor", foreverCached)
		return true, nil
	}
	if dir == "" && name == trust.SumsTarget {
		if known, ok := g.tuf.sums.get(signedKey{id: c.ID, tree: rel.Manifest.Tree}); ok && known != sum {
			return false, nil
		}
		data, err := g.sumsOf(r.Context(), c, rel)
		if err != nil || data == nil || content.Sum(data) != sum {
			return false, err
		}
		sendBytes(w, r, data, "text/plain; charset=utf-8", foreverCached)
		return true, nil
	}
	inTree, ok := strings.CutPrefix(dir+"/"+name, trust.TreeTarget)
	if !ok {
		return false, nil
	}
	e, err := content.Lookup(rel.Manifest.Tree, rel.Blocks, inTree)
	if errors.Is(err, content.ErrNoEntry) || err == nil && (!e.IsFile() || e.SHA256 != sum) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	o := newObject(inTree, e)
	o.cache = []string{foreverCached}
	g.serveFile(w, r, c, found{rel, o})
	return true, nil
}

// sumsOf lists the checksums of a release.
func (g *Gateway) sumsOf(ctx context.Context, c *Collection, rel *Release) ([]byte, error) {
	key := signedKey{id: c.ID, tree: rel.Manifest.Tree}
	if data, ok := g.tuf.files.get(key); ok {
		return data, nil
	}
	done, err := g.turns.take(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	data, err := rel.Manifest.Sums(rel.Blocks)
	if err == nil {
		g.tuf.sums.put(key, content.Sum(data), 1)
		g.tuf.files.put(key, data, len(data)+len(content.Digest{}))
	}
	return data, err
}

// sendBytes answers with bytes that are in memory.
func sendBytes(w http.ResponseWriter, r *http.Request, data []byte, mediaType, cache string) {
	h := w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Cache-Control", cache)
	h.Set("Etag", `"`+content.Sum(data).String()+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}
