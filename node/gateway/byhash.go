package gateway

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"swarmnode/content"
)

const (
	// maxRelease bounds a Release file that is read for its sums; the largest of Debian has 1.5 MB.
	maxRelease = 16 << 20
	// maxHashed is how many entries of a directory are looked at for one with a hash. Directories of indexes have some dozens, and
	// anybody can ask for a hash that is nowhere.
	maxHashed = 4096
	// releaseWait is how long reading one may take: the client waits for its first byte meanwhile.
	releaseWait = firstByte
)

// hashKinds are the directories below by-hash and how long their names are, in hexadecimal digits. They are also the names of the
// sections of a Release file.
var hashKinds = map[string]int{"SHA256": 64, "SHA512": 128, "MD5Sum": 32}

// byHash finds the file that apt means with DIR/by-hash/KIND/HASH where the published tree has no such name: the file of DIR, or of a
// directory in it, that has this hash. otherwise is the error when there is none.
func (g *Gateway) byHash(ctx context.Context, rel *Release, c *Collection, path string, otherwise error) (*object, error) {
	dir, kind, hash, ok := splitByHash(path)
	if !ok {
		return nil, otherwise
	}
	var e content.Entry
	var err error
	if kind == "SHA256" {
		e, err = g.siblingBySum(ctx, rel, dir, hash)
	} else {
		e, err = g.byRelease(ctx, rel, c, dir, kind, hash)
	}
	if err != nil {
		return nil, err
	}
	o := newObject(path, e)
	g.objects.put(objectKey{rel.Manifest.Tree, path}, o, 1)
	return o, nil
}

// splitByHash takes DIR/by-hash/KIND/HASH apart. DIR is "" for the top.
func splitByHash(path string) (dir, kind, hash string, ok bool) {
	if !strings.Contains(path, "by-hash/") {
		return "", "", "", false
	}
	parts := strings.Split(path, "/")
	n := len(parts) - 3
	if n < 0 || parts[n] != "by-hash" {
		return "", "", "", false
	}
	kind, hash = parts[n+1], parts[n+2]
	if _, err := hex.DecodeString(hash); err != nil || len(hash) != hashKinds[kind] || hash != strings.ToLower(hash) {
		return "", "", "", false
	}
	return strings.Join(parts[:n], "/"), kind, hash, true
}

// siblingBySum finds the file directly in dir that has this SHA-256, which the tree itself says.
func (g *Gateway) siblingBySum(ctx context.Context, rel *Release, dir, hash string) (content.Entry, error) {
	want, err := content.ParseDigest(hash)
	if err != nil {
		return content.Entry{}, err
	}
	real, err := g.follow(rel, dir)
	if err != nil {
		return content.Entry{}, err
	}
	done, err := g.turns.take(ctx)
	if err != nil {
		return content.Entry{}, err
	}
	defer done()
	entries, err := content.ListFirst(rel.Manifest.Tree, g.tree(rel), real.Path, maxHashed)
	if err != nil {
		return content.Entry{}, err
	}
	for _, e := range entries {
		if e.IsLink() {
			if e, err = g.follow(rel, e.Path); errors.Is(err, content.ErrNoEntry) {
				continue // leads nowhere
			} else if err != nil {
				return content.Entry{}, err
			}
		}
		if e.IsFile() && e.SHA256 == want {
			return e, nil
		}
	}
	return content.Entry{}, &notFound{fmt.Sprintf("no file of %s has this SHA-256 in a release that this mirror has", dir)}
}

// suiteSums are the SHA512 and MD5Sum lines of one Release file: kind/hash -> the files, relative to the directory of the Release file.
// Several files can have the same bytes, empty lists above all, and not all that are listed need to be in the tree.
type suiteSums struct {
	paths map[string][]string
	count int
}

// byRelease finds the file of dir with this hash through the Release file of its suite: the first on the way up from dir that lists it.
func (g *Gateway) byRelease(ctx context.Context, rel *Release, c *Collection, dir, kind, hash string) (content.Entry, error) {
	for suite := dir; ; suite = suite[:max(strings.LastIndexByte(suite, '/'), 0)] {
		for _, name := range []string{"Release", "InRelease"} {
			e, err := g.follow(rel, join(suite, name))
			if errors.Is(err, content.ErrNoEntry) || err == nil && !e.IsFile() {
				continue
			}
			if err != nil {
				return content.Entry{}, err
			}
			sums, err := g.suite(ctx, rel, c, e)
			if err != nil {
				return content.Entry{}, err
			}
			for _, path := range sums.paths[kind+"/"+hash] {
				if e, err := g.follow(rel, join(suite, path)); !errors.Is(err, content.ErrNoEntry) {
					return e, err
				}
			}
		}
		if suite == "" {
			return content.Entry{}, &notFound{fmt.Sprintf("no Release file above %s lists this %s in a release that this mirror has", dir, kind)}
		}
	}
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// sumsKey names a Release file. The hash of a file is what its publisher says, so it means nothing in another collection.
type sumsKey struct {
	id  content.ID
	sum content.Digest
}

// suite reads a Release file once per content.
func (g *Gateway) suite(ctx context.Context, rel *Release, c *Collection, e content.Entry) (*suiteSums, error) {
	key := sumsKey{c.ID, e.SHA256}
	if s, ok := g.sums.get(key); ok {
		return s, nil
	}
	if e.Size > maxRelease {
		return &suiteSums{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, releaseWait)
	defer cancel()
	data, err := g.read(ctx, c, rel, e)
	if err != nil {
		return nil, fmt.Errorf("read %s for its sums: %w", e.Path, err)
	}
	s := parseSums(data)
	g.sums.put(key, s, 1+s.count)
	return s, nil
}

// parseSums reads the sections of a Release file whose hashes the tree does not have. What is not a line of the form "HASH SIZE PATH"
// is left out, so are paths that no tree can hold.
func parseSums(data []byte) *suiteSums {
	s := &suiteSums{paths: map[string][]string{}}
	section := ""
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() && s.count < sumsKept/8-1 { // its weight is one more
		line := lines.Text()
		if !strings.HasPrefix(line, " ") {
			section, _, _ = strings.Cut(line, ":")
			continue
		}
		f := strings.Fields(line)
		if len(f) != 3 || section == "SHA256" || len(f[0]) != hashKinds[section] || content.CheckPath(f[2]) != nil {
			continue
		}
		if _, err := strconv.ParseUint(f[1], 10, 63); err != nil {
			continue
		}
		key := section + "/" + strings.ToLower(f[0])
		s.paths[key] = append(s.paths[key], f[2])
		s.count++
	}
	return s
}
