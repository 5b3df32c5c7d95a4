package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"

	"swarmnode/content"
)

const (
	// linkNames is how many files with one path, size and mtime get a link each.
	linkNames = 8
	// maxLinks is how many links of one path a read tries: versions of a file within the grace time.
	maxLinks = 64
)

// links is the directory of hard links: names xx/… derived from path, size and mtime, in 256 directories.
type links struct {
	tree  string // path of the published tree
	dir   string
	root  *os.Root
	files *files[string]
}

func openLinks(tree, dir string) (*links, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("open links: %w", full(err))
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open links: %w", err)
	}
	l := &links{tree: tree, dir: dir, root: root}
	l.files = newFiles(MaxOpenFiles, func(name string, _ bool) (*os.File, error) { return openRegular(root, name) })
	return l, nil
}

func (l *links) close() error {
	l.files.close()
	return l.root.Close()
}

// Link keeps the present file at path under a second name, so that a rename or delete in the tree does not take it
// away. false without an error: the file system or its rules do not allow it, or no directory was given for links.
// Durable, as far as the index goes, after Sync. A file that is changed in place changes under both names.
func (r *References) Link(path string) (bool, error) {
	if r.links == nil {
		return false, nil
	}
	if !fs.ValidPath(path) || path == "." {
		return false, fmt.Errorf("link %q: not a path in the tree", path)
	}
	st, err := r.tree.Lstat(path)
	if err != nil {
		return false, fmt.Errorf("link %s: %w", path, err)
	}
	if !st.Mode().IsRegular() {
		return false, fmt.Errorf("link %s: it is no regular file", path)
	}
	name, err := r.links.make(path, st)
	if err != nil || name == "" {
		return false, err
	}
	return true, r.change(func(b *pebble.Batch) { _ = b.Set(linkKey(path, name), nil, nil) })
}

// make links one file; "" if that cannot be.
func (l *links) make(path string, st fs.FileInfo) (string, error) {
	id := binary.BigEndian.AppendUint64([]byte(path), uint64(st.Size()))
	id = binary.BigEndian.AppendUint64(id, uint64(st.ModTime().UnixNano()))
	base := content.Sum(id).String()[:40]
	base = base[:2] + "/" + base[2:]
	if err := l.root.Mkdir(base[:2], 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("link %s: %w", path, full(err))
	}
	for n := range linkNames {
		name := base
		if n > 0 {
			name += "-" + strconv.Itoa(n)
		}
		err := os.Link(filepath.Join(l.tree, filepath.FromSlash(path)), filepath.Join(l.dir, filepath.FromSlash(name)))
		switch {
		case err == nil || errors.Is(err, fs.ErrExist):
		case unlinkable(err):
			return "", nil
		default:
			return "", fmt.Errorf("link %s: %w", path, full(err))
		}
		got, serr := l.root.Lstat(name)
		if serr == nil && os.SameFile(got, st) {
			return name, nil
		}
		if err == nil { // the path led somewhere else meanwhile, perhaps out of the tree
			if rerr := l.root.Remove(name); rerr != nil {
				return "", fmt.Errorf("link %s: %w", path, rerr)
			}
			return "", nil
		}
	}
	return "", nil
}

// unlinkable reports whether the file system, or its rules for this user, do not allow the link.
func unlinkable(err error) bool {
	for _, e := range []syscall.Errno{syscall.EXDEV, syscall.EPERM, syscall.EACCES, syscall.EMLINK, syscall.ENOSYS,
		syscall.EOPNOTSUPP, syscall.ENOTSUP} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// linksOf lists the links made of files at path.
func (r *References) linksOf(path string) (names []string) {
	prefix := linkKey(path, "")
	err := scan(r.db, prefix, func(key, _ []byte) bool {
		names = append(names, strings.Clone(string(bytes.TrimPrefix(key, prefix))))
		return len(names) < maxLinks
	})
	if err != nil {
		r.cfg.Log.Warn("the publisher's index cannot be read", "error", err)
	}
	return names
}

// Unlink removes the links of earlier files at path, when their grace time is over. The link of the file that is
// there now stays.
func (r *References) Unlink(path string) error {
	if r.links == nil {
		return nil
	}
	if err := r.enter(); err != nil {
		return err
	}
	names := r.linksOf(path)
	r.using.RUnlock()
	now, err := r.tree.Lstat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unlink %s: %w", path, err)
	}
	for _, name := range names {
		if st, err := r.links.root.Lstat(name); err == nil && now != nil && os.SameFile(st, now) {
			continue
		}
		r.links.files.drop(name)
		if err := r.links.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("unlink %s: %w", path, err)
		}
		if err := r.change(func(b *pebble.Batch) { _ = b.Delete(linkKey(path, name), nil) }); err != nil {
			return err
		}
	}
	return nil
}
