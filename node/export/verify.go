package export

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"swarmnode/content"
)

// Report is what [Verify] found. Paths are those in the target, sorted in tree order.
type Report struct {
	Files int   // regular files of the release
	Bytes int64 // in them

	Missing    []string // in the release, not in the directory
	Changed    []string // other content, another kind or, of a symlink, another target
	Unreadable []string // there, but this user or the disk cannot read it
	Extra      []string // in the directory, not in the release; a directory stands for all in it
	WrongMode  []string // right but for the permissions
	WrongTime  []string // right but for the time
}

// OK reports whether all of the release is there and right. Extra files, modes and times do not count against it.
func (r Report) OK() bool {
	return len(r.Missing) == 0 && len(r.Changed) == 0 && len(r.Unreadable) == 0
}

// checkedListing is a listing being compared with a directory.
type checkedListing struct {
	listing
	root *os.Root
	told *progress

	mu     sync.Mutex // guards report
	report Report
}

// Verify compares the directory dir with entries, which are in tree order and whose paths lose the prefix strip, as in [NewPlan].
// It reads every file and changes nothing. Extra files are looked for in the directories among the entries; so those next to what
// was asked for are only extra if the target itself (the directory strip) is an entry too. progress hears of bytes
// checked; it may be nil.
func Verify(ctx context.Context, dir string, entries []content.Entry, strip string, progress func(done, total int64)) (Report, error) {
	l, err := newListing(entries, strip)
	if err != nil {
		return Report{}, err
	}
	root, err := openTarget(dir)
	if err != nil {
		return Report{}, fmt.Errorf("verify %s: %w", dir, err)
	}
	defer root.Close()
	v := &checkedListing{listing: l, root: root}
	for _, e := range entries {
		if e.IsFile() {
			v.report.Files++
			v.report.Bytes += int64(e.Size)
		}
	}
	v.told = newProgress(v.report.Bytes, progress)
	if err := v.run(ctx); err != nil {
		return Report{}, fmt.Errorf("verify %s: %w", dir, err)
	}
	v.told.end()
	r := &v.report
	for _, list := range []*[]string{&r.Missing, &r.Changed, &r.Unreadable, &r.Extra, &r.WrongMode, &r.WrongTime} {
		slices.SortFunc(*list, content.ComparePaths)
	}
	return *r, nil
}

// run walks over the entries and lets a few goroutines read the files.
func (v *checkedListing) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	files := make(chan int)
	for range scanners {
		group.Go(func() error {
			buf := make([]byte, content.MaxChunkSize)
			for i := range files {
				if err := v.file(ctx, i, buf); err != nil {
					return err
				}
			}
			return nil
		})
	}
	group.Go(func() error {
		defer close(files)
		lost := "" // a directory that is not there, with '/' behind
		for i, e := range v.entries {
			out := v.out(i)
			if lost != "" && strings.HasPrefix(out, lost) {
				v.note(&v.report.Missing, out)
				v.told.add(int64(e.Size))
				continue
			}
			switch {
			case e.IsFile():
				select {
				case files <- i:
				case <-ctx.Done():
					return ctx.Err()
				}
			case e.IsLink():
				if err := v.link(i); err != nil {
					return err
				}
			default:
				there, err := v.directory(i)
				if err != nil {
					return err
				}
				if !there {
					lost = out + "/"
				}
			}
		}
		return nil
	})
	return group.Wait()
}

func (v *checkedListing) note(list *[]string, out string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	*list = append(*list, out)
}

// stat notes what is missing. It gives nil then.
func (v *checkedListing) stat(i int) (fs.FileInfo, error) {
	info, err := v.root.Lstat(v.out(i))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		v.note(&v.report.Missing, v.out(i))
		return nil, nil
	case errors.Is(err, fs.ErrPermission):
		v.note(&v.report.Unreadable, v.out(i))
		return nil, nil
	}
	return info, err
}

func (v *checkedListing) checkMode(i int, info fs.FileInfo) {
	if runtime.GOOS != "windows" && uint32(info.Mode().Perm()) != v.entries[i].Perm() {
		v.note(&v.report.WrongMode, v.out(i))
	}
}

func (v *checkedListing) link(i int) error {
	if v.leaves(i) {
		return nil // a Plan does not write it
	}
	info, err := v.stat(i)
	if info == nil || err != nil {
		return err
	}
	if info.Mode()&fs.ModeSymlink == 0 {
		v.note(&v.report.Changed, v.out(i))
		return nil
	}
	target, err := v.root.Readlink(v.out(i))
	if err == nil && target != filepath.FromSlash(v.entries[i].Target) {
		v.note(&v.report.Changed, v.out(i))
	}
	return err
}

// directory checks a directory and looks for extra names in it. there is false if nothing in it can be looked at.
func (v *checkedListing) directory(i int) (there bool, err error) {
	out := v.out(i)
	if out != "." {
		info, err := v.stat(i)
		if info == nil || err != nil {
			return false, err
		}
		if !info.IsDir() {
			v.note(&v.report.Changed, out)
			return false, nil
		}
		v.checkMode(i, info)
	}
	names, err := listDir(v.root, out)
	if errors.Is(err, fs.ErrPermission) {
		v.note(&v.report.Unreadable, out)
		return true, nil
	}
	if err != nil {
		return false, err
	}
	in := v.entries[i].Path
	if in != "" {
		in += "/"
	}
	for _, n := range names {
		_, known := slices.BinarySearchFunc(v.entries, in+n, func(e content.Entry, p string) int { return content.ComparePaths(e.Path, p) })
		if known || out == "." && n == PartDir {
			continue
		}
		if out != "." {
			n = out + "/" + n
		}
		v.note(&v.report.Extra, n)
	}
	return true, nil
}

// file reads a file and compares its hash.
func (v *checkedListing) file(ctx context.Context, i int, buf []byte) error {
	e, out := v.entries[i], v.out(i)
	read := int64(0)
	defer func() { v.told.add(int64(e.Size) - read) }()
	info, err := v.stat(i)
	if info == nil || err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() != int64(e.Size) {
		v.note(&v.report.Changed, out)
		return nil
	}
	f, err := v.root.Open(out)
	if err != nil {
		v.note(&v.report.Unreadable, out)
		return nil
	}
	defer f.Close()
	hash := sha256.New()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := f.Read(buf)
		hash.Write(buf[:n])
		if n = int(min(int64(n), int64(e.Size)-read)); n > 0 {
			read += int64(n)
			v.told.add(int64(n))
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			v.note(&v.report.Unreadable, out)
			return nil
		}
	}
	if content.Digest(hash.Sum(nil)) != e.SHA256 {
		v.note(&v.report.Changed, out)
		return nil
	}
	v.checkMode(i, info)
	if info.ModTime().Unix() != e.Mtime {
		v.note(&v.report.WrongTime, out)
	}
	return nil
}
