package store

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2"

	"swarmnode/content"
	"swarmnode/content/durable"
)

const (
	// maxLinks is how many links of one path a read tries: versions of a file within the grace time.
	maxLinks = 64
	// dropAtOnce is how many links are removed between two writes to the index.
	dropAtOnce = 1024
)

// links is the directory of hard links of published files. All are in one directory, so that one sync makes them
// durable. A name is made of the path and the inode number, which no other file has while the link is there.
type links struct {
	fs    durable.FS
	root  *os.Root
	at    *os.File // the directory, opened
	files *files[string]
	dirty atomic.Bool // something was linked since the last sync
	said  sync.Once   // that linking is not possible
}

// madeLink is a link that is not yet in the index.
type madeLink struct{ path, name string }

func openLinks(fsys durable.FS, dir string) (*links, error) {
	if err := durable.MkdirAll(fsys, dir, 0o700); err != nil {
		return nil, fmt.Errorf("open links: %w", full(err))
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open links: %w", err)
	}
	at, err := root.Open(".")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open links: %w", err), root.Close())
	}
	l := &links{fs: fsys, root: root, at: at}
	l.files = newFiles(MaxOpenFiles, func(name string, _ bool) (*os.File, error) { return openRegular(root, name) })
	return l, nil
}

func (l *links) close() error {
	l.files.close()
	return errors.Join(l.at.Close(), l.root.Close())
}

// sync makes the names durable.
func (l *links) sync() error {
	if !l.dirty.Swap(false) {
		return nil
	}
	if err := l.fs.SyncDir(l.root.Name()); err != nil {
		l.dirty.Store(true)
		return fmt.Errorf("sync links: %w", full(err))
	}
	return nil
}

func linkName(path string, inode uint64) string {
	sum := content.Sum([]byte(path))
	return hex.EncodeToString(sum[:12]) + "-" + strconv.FormatUint(inode, 16)
}

// Link keeps a file of the tree under a second name, so that a rename or delete in the tree does not take its bytes
// away: dir is its directory, opened, path is its path in the tree and inode its inode number. made says that a link
// was made, which has changed the file's change time; it is false if there is one already, or none can be: the file
// system or its rules do not allow it, or no directory was given for links. Durable after Sync. A file that is changed
// in place changes under both names.
func (r *References) Link(dir *os.File, path string, inode uint64) (made bool, err error) {
	if r.links == nil {
		return false, nil
	}
	if !fs.ValidPath(path) || path == "." {
		return false, fmt.Errorf("link %q: not a path in the tree", path)
	}
	name := linkName(path, inode)
	err = r.links.fs.LinkAt(dir, path[strings.LastIndexByte(path, '/')+1:], r.links.at, name)
	switch {
	case err == nil:
		made = true
		r.links.dirty.Store(true)
	case errors.Is(err, fs.ErrExist):
	case unlinkable(err):
		r.links.said.Do(func() {
			r.cfg.Log.Info("published files cannot be linked: those that are replaced or deleted are gone at once, without a grace time",
				"path", path, "error", err)
		})
		return false, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil // gone; who reads it will say so
	default:
		return false, fmt.Errorf("link %s: %w", path, full(err))
	}
	if err := r.enter(); err != nil {
		return made, err
	}
	defer r.using.RUnlock()
	r.mu.Lock()
	r.newLinks = append(r.newLinks, madeLink{path, name})
	flush := len(r.newLinks) >= maxWaiting
	r.mu.Unlock()
	if flush {
		return made, r.write(r.flush)
	}
	return made, nil
}

// unlinkable reports whether the file system, or its rules for this user, do not allow the link.
func unlinkable(err error) bool {
	for _, e := range []syscall.Errno{syscall.EXDEV, syscall.EPERM, syscall.EACCES, syscall.EMLINK, syscall.ENOSYS,
		syscall.EOPNOTSUPP, syscall.ENOTSUP} {
		if errors.Is(err, e) {
			return true
		}
	}
	return errors.Is(err, errors.ErrUnsupported)
}

// linksOf lists the links made of files at path.
func (r *References) linksOf(path string) (names []string) {
	r.mu.RLock()
	for _, list := range [][]madeLink{r.newLinks, r.movingLinks} {
		for _, l := range list {
			if l.path == path {
				names = append(names, l.name)
			}
		}
	}
	r.mu.RUnlock()
	prefix := linkKey(path, "")
	err := scan(r.db, prefix, func(key, _ []byte) bool {
		names = append(names, string(bytes.TrimPrefix(key, prefix)))
		return len(names) < maxLinks
	})
	if err != nil {
		r.cfg.Log.Warn("the publisher's index cannot be read and is filled again: look at the disk", "error", err)
	}
	return names
}

// Retire says that with release the files that were at path before are replaced or deleted. inode is that of the file
// that is there now, whose link stays; 0 if there is none. The links of the others stay until DropLinks.
func (r *References) Retire(path string, inode, release uint64) error {
	if r.links == nil {
		return nil
	}
	now := linkName(path, inode)
	return r.retire(release, func(l madeLink) bool { return l.name != now || inode == 0 }, linkKey(path, ""))
}

// retire marks the links under a prefix of the index that gone names and that are not marked yet.
func (r *References) retire(release uint64, gone func(madeLink) bool, prefix []byte) error {
	return r.call(func() error {
		if err := r.flush(); err != nil {
			return err
		}
		number := binary.BigEndian.AppendUint64(nil, release)
		b := r.db.NewBatch()
		err := scan(r.db, prefix, func(key, v []byte) bool {
			if l, ok := parseLink(key); ok && len(v) == 0 && gone(l) {
				_ = b.Set(key, number, nil)
				_ = b.Set(goneKey(release, l), nil, nil)
			}
			return true
		})
		if err != nil || b.Empty() {
			return errors.Join(err, b.Close())
		}
		return r.commit(b)
	})
}

// DropLinks removes the links of files that only releases before this one have.
func (r *References) DropLinks(release uint64) error {
	if r.links == nil {
		return nil
	}
	for {
		more, err := r.dropSome(release)
		if err != nil || !more {
			return err
		}
	}
}

// dropSome removes the files before the index forgets them: that much works on a full disk.
func (r *References) dropSome(release uint64) (more bool, err error) {
	var gone [][]byte // keys
	if err := r.enter(); err != nil {
		return false, err
	}
	var failed error
	err = scan(r.db, []byte{keyGone}, func(key, _ []byte) bool {
		number, l, ok := parseGone(key)
		if ok && number > release {
			return false
		}
		gone = append(gone, bytes.Clone(key))
		if ok {
			var link []byte
			link, failed = r.dropLink(number, l)
			gone = append(gone, link)
		}
		more = len(gone) >= dropAtOnce
		return failed == nil && !more
	})
	r.using.RUnlock()
	if err = errors.Join(failed, err); err != nil || len(gone) == 0 {
		return false, err
	}
	return more, r.change(func(b *pebble.Batch) {
		for _, key := range gone {
			if key != nil {
				_ = b.Delete(key, nil)
			}
		}
	})
}

// dropLink removes a link and gives its key, unless its file has come back since.
func (r *References) dropLink(release uint64, l madeLink) (key []byte, err error) {
	key = linkKey(l.path, l.name)
	v, err := lookup(r.db, key)
	if err != nil || len(v) != 8 || binary.BigEndian.Uint64(v) != release {
		return nil, err
	}
	return key, r.links.remove(l.name)
}

func (l *links) remove(name string) error {
	l.files.drop(name)
	if err := l.fs.RemoveIn(l.root, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove a link: %w", err)
	}
	return nil
}

// SweepLinks makes up for a publish that was cut off, or an index that was lost: links of files that are no longer in
// the tree are retired with release, the next one, and links that the index does not know are removed.
func (r *References) SweepLinks(release uint64) error {
	if r.links == nil {
		return nil
	}
	known := map[uint64]struct{}{}
	err := r.retire(release, func(l madeLink) bool {
		link, err := r.links.root.Lstat(l.name)
		if err != nil {
			return true
		}
		now, err := r.tree.Lstat(l.path)
		return err != nil || !os.SameFile(link, now)
	}, []byte{keyLink})
	if err == nil {
		err = r.call(func() error {
			return scan(r.db, []byte{keyLink}, func(key, _ []byte) bool {
				if l, ok := parseLink(key); ok {
					known[l.id()] = struct{}{}
				}
				return true
			})
		})
	}
	if err != nil {
		return err
	}
	dir, err := r.links.root.Open(".")
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(dropAtOnce)
		for _, name := range names {
			if _, ok := known[madeLink{name: name}.id()]; !ok {
				if err := r.links.remove(name); err != nil {
					return err
				}
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list links: %w", err)
		}
	}
}

// id is a short name for a set of links.
func (l madeLink) id() uint64 {
	sum := content.Sum([]byte(l.name))
	return binary.BigEndian.Uint64(sum[:])
}
