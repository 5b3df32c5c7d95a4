package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"swarmnode/content"
)

// maxLinks is how many symlinks are followed for one path, as Linux does it (path_resolution(7)).
const maxLinks = 40

// splitTarget takes an escaped request path apart: the first part, and the rest with its leading slash and without escapes. It refuses
// what no tree can hold, so that a path has one spelling: "//", "." and "..", a slash or a control character that is escaped, what is
// not UTF-8.
func splitTarget(escaped string) (name, rest string, err error) {
	if !strings.HasPrefix(escaped, "/") {
		return "", "", errors.New("the address has no path")
	}
	if simple(escaped) {
		name, _, more := strings.Cut(escaped[1:], "/")
		if !more {
			return name, "", nil
		}
		return name, escaped[1+len(name):], nil
	}
	return splitParts(escaped)
}

// splitParts is splitTarget part by part.
func splitParts(escaped string) (name, rest string, err error) {
	parts := strings.Split(escaped[1:], "/")
	for i, part := range parts {
		if parts[i], err = decodePart(part, i == len(parts)-1); err != nil {
			return "", "", err
		}
	}
	if len(parts) == 1 {
		return parts[0], "", nil
	}
	return parts[0], "/" + strings.Join(parts[1:], "/"), nil
}

// simple reports whether a path needs no second look: it has no escapes, no empty part, none that begins with a dot, and no byte but
// the printable ones of ASCII. Nearly all paths of archives are so.
func simple(escaped string) bool {
	last := byte(0)
	for i := range len(escaped) {
		c := escaped[i]
		if c <= ' ' || c >= 0x7f || c == '%' || last == '/' && (c == '/' || c == '.') {
			return false
		}
		last = c
	}
	return true
}

// decodePart takes the escapes out of one part of a path. Only the last part may be empty: that is a slash at the end.
func decodePart(escaped string, last bool) (string, error) {
	part, err := url.PathUnescape(escaped)
	switch {
	case err != nil:
		return "", errors.New("the address has a % that is not followed by two hexadecimal digits")
	case part == "" && !last:
		return "", errors.New("the address has two slashes in a row")
	case part == "." || part == "..":
		return "", fmt.Errorf("the address has the part %q", part)
	case strings.Contains(part, "/") || strings.ContainsFunc(part, unicode.IsControl) || !utf8.ValidString(part):
		return "", errors.New("the address has a character that no file name here can have")
	}
	return part, nil
}

// objectKey names a path in a release.
type objectKey struct {
	tree content.Digest
	path string
}

// find looks a path up in one release, following symlinks inside of the tree. "" is the top directory. The answer's entry is never a
// symlink. The error is a *notFound, a *content.Missing, or says what is wrong with the tree.
func (g *Gateway) find(rel *Release, path string) (*object, error) {
	key := objectKey{rel.Manifest.Tree, path}
	if o, ok := g.objects.get(key); ok {
		return o, nil
	}
	e, err := g.follow(rel, path)
	if err != nil {
		return nil, err
	}
	o := newObject(path, e)
	g.objects.put(key, o, 1)
	return o, nil
}

// follow resolves path to an entry that is no symlink.
func (g *Gateway) follow(rel *Release, path string) (content.Entry, error) {
	links := 0
	for {
		e, err := g.lookup(rel, path)
		switch {
		case err == nil && !e.IsLink():
			return e, nil
		case err == nil: // the path itself is a symlink
			path, err = target(e, "")
		case errors.Is(err, content.ErrNoEntry):
			path, err = g.throughLink(rel, path)
		}
		if err != nil {
			return content.Entry{}, err
		}
		if links++; links > maxLinks {
			return content.Entry{}, &notFound{"its symlinks lead in a circle"}
		}
	}
}

// lookup is content.Lookup with the top directory, which is not an entry of the tree.
func (g *Gateway) lookup(rel *Release, path string) (content.Entry, error) {
	if path == "" {
		return content.Entry{Mode: content.ModeDir | 0o755}, nil
	}
	return content.Lookup(rel.Manifest.Tree, g.tree(rel), path)
}

// tree is the blocks of a release, with the nodes of its tree that are remembered.
func (g *Gateway) tree(rel *Release) content.BlockSource { return keptNodes{rel.Blocks, g.nodes} }

// keptNodes is a content.NodeKeeper.
type keptNodes struct {
	content.BlockSource
	nodes *recent[content.Digest, content.Node]
}

func (k keptNodes) KeptNode(d content.Digest) (content.Node, bool) { return k.nodes.get(d) }

func (k keptNodes) KeepNode(d content.Digest, n content.Node, size int) { k.nodes.put(d, n, size) }

// throughLink replaces the first directory of path that is a symlink by its target.
func (g *Gateway) throughLink(rel *Release, path string) (string, error) {
	for i, c := range path {
		if c != '/' {
			continue
		}
		e, err := g.lookup(rel, path[:i])
		switch {
		case err != nil && !errors.Is(err, content.ErrNoEntry):
			return "", err
		case err != nil:
			return "", &notFound{fmt.Sprintf("there is no directory %s", path[:i])}
		case e.IsLink():
			return target(e, path[i+1:])
		case e.IsFile():
			return "", &notFound{fmt.Sprintf("%s is a file, not a directory", path[:i])}
		}
	}
	return "", &notFound{"no release that this mirror has holds it"}
}

// target is the path that a symlink means, with rest behind it.
func target(link content.Entry, rest string) (string, error) {
	parts := strings.Split(link.Path, "/")
	parts = parts[:len(parts)-1]
	for part := range strings.SplitSeq(link.Target+"/"+rest, "/") {
		switch part {
		case "", ".":
		case "..":
			if len(parts) == 0 {
				return "", &notFound{fmt.Sprintf("the symlink %s leads out of the collection", link.Path)}
			}
			parts = parts[:len(parts)-1]
		default:
			parts = append(parts, part)
		}
	}
	path := strings.Join(parts, "/")
	if len(path) > content.MaxPath {
		return "", &notFound{"its symlinks lead in a circle"}
	}
	return path, nil
}

// found is an object in the release in which it was found.
type found struct {
	rel *Release
	*object
}

// locate finds a path in the releases in which it may be looked for: what changes under its name is in the current release only, all
// else also in the served one and those that are kept. The first error counts, as it is about the newest release, unless a later one
// says that the path may be there after all.
func (g *Gateway) locate(ctx context.Context, current *Release, c *Collection, path string) (found, error) {
	o, first := g.findHashed(ctx, current, c, path)
	if first == nil {
		return found{current, o}, nil
	}
	if mutable(path) {
		return found{}, first
	}
	done, err := g.turns.take(ctx)
	if err != nil {
		return found{}, err
	}
	f, first, sure := g.locateKept(current, c, path, first)
	done()
	if sure || !strings.Contains(path, "by-hash/") {
		return f, first
	}
	for _, rel := range c.releases() {
		if rel == current {
			continue
		}
		o, err := g.findHashed(ctx, rel, c, path)
		if err == nil {
			return found{rel, o}, nil
		}
		if errors.Is(first, content.ErrNoEntry) && !errors.Is(err, content.ErrNoEntry) {
			first = err
		}
	}
	return found{}, first
}

// locateKept looks for the path itself in all releases but the current one. Many can be kept, so it is done with a turn.
func (g *Gateway) locateKept(current *Release, c *Collection, path string, first error) (f found, err error, ok bool) {
	for _, rel := range c.releases() {
		if rel == current {
			continue
		}
		o, err := g.find(rel, path)
		if err == nil {
			return found{rel, o}, nil, true
		}
		if errors.Is(first, content.ErrNoEntry) && !errors.Is(err, content.ErrNoEntry) {
			first = err
		}
	}
	return found{}, first, false
}

// findHashed is find, also for what apt asks for by its hash.
func (g *Gateway) findHashed(ctx context.Context, rel *Release, c *Collection, path string) (*object, error) {
	o, err := g.find(rel, path)
	if errors.Is(err, content.ErrNoEntry) {
		return g.byHash(ctx, rel, c, path, err)
	}
	return o, err
}

// releases lists all in which a path can be found that never means other bytes, in the order of DESIGN section 7.
func (c *Collection) releases() []*Release {
	list := []*Release{c.Served}
	if c.Next != nil {
		list = append(list, c.Next)
	}
	return append(list, c.Kept...)
}

// serveCollection answers a path of a collection; path is "" or begins with a slash.
func (g *Gateway) serveCollection(w http.ResponseWriter, r *http.Request, c *Collection, path string) {
	if path == "" {
		g.redirectToDir(w, r)
		return
	}
	var query url.Values
	if r.URL.RawQuery != "" { // most have none, and an empty one would cost
		query = r.URL.Query()
	}
	if path == "/" && query.Has("mirrorlist") {
		g.serveMirrorlist(w, r, c, "")
		return
	}
	if c.Served == nil {
		unavailable(w, retryAfter, fmt.Sprintf("This mirror is still fetching the first release of %s. Try again in a moment, or take another mirror.", c.Name))
		return
	}
	now := g.cfg.Now()
	current := c.current(r.Context(), now)
	inTree := content.CleanDir(path)
	if now.After(c.Expires) && mutable(inTree) {
		unavailable(w, time.Hour, fmt.Sprintf("The publisher's signature on %s ended on %s, so nothing here can be called current. Take another mirror, or tell the publisher.",
			c.Name, c.Expires.UTC().Format(time.RFC1123)))
		return
	}
	f, err := g.locate(r.Context(), current, c, inTree)
	asDir := strings.HasSuffix(path, "/")
	switch {
	case err != nil && errors.Is(err, content.ErrNoEntry) && !asDir && g.serveDerived(w, r, c, current, inTree):
	case err != nil:
		g.failLookup(w, r, c, inTree, err)
	case f.entry.IsDir() && !asDir:
		g.redirectToDir(w, r)
	case f.entry.IsDir() && query.Has("mirrorlist"):
		g.serveMirrorlist(w, r, c, inTree+"/")
	case f.entry.IsDir():
		g.serveListing(w, r, c, f)
	case asDir:
		fail(w, http.StatusNotFound, fmt.Sprintf("%s is a file: take the slash at the end of the address away.", inTree))
	case metalinkKind(query) != "" && g.serveDerived(w, r, c, f.rel, inTree):
	default:
		g.serveFile(w, r, c, f)
	}
}

// redirectToDir sends the client to the address with a slash at its end, so that the relative links of the page are right. Location
// begins with a slash, apt takes no other relative form; but a proxy that puts a prefix before our paths has told nobody here, except for
// the gateway's own URL, so then it is absolute, which proxies leave alone.
func (g *Gateway) redirectToDir(w http.ResponseWriter, r *http.Request) {
	to := r.URL.EscapedPath() + "/"
	if own, err := url.Parse(g.cfg.URL); err == nil && own.Path != "" && own.Path != "/" {
		to = g.cfg.URL + strings.TrimPrefix(to, "/")
	}
	if r.URL.RawQuery != "" {
		to += "?" + r.URL.RawQuery
	}
	w.Header().Set("Location", to)
	fail(w, http.StatusMovedPermanently, "The address of a directory ends with a slash: "+to)
}
