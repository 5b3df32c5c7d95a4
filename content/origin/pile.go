package origin

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"swarmnode/content"
)

// compactAt is how many files are gathered before what is named twice is looked for the first time: a package for all architectures
// is named in the index of each.
const compactAt = 1 << 18

// maxNameBytes is how many bytes the names of all files of a repository may have together: MaxEntries names that are twice as long as those of
// Debian's pool. What gathers them holds twice as much at most.
const maxNameBytes = 512 << 20

// stamp512 begins the stamp of a file of which only the SHA512 is told: Open compares it.
const stamp512 = "sha512:"

// filed is a file that metadata names: an Entry with less room for each of a million.
type filed struct {
	path, fetch string
	size        int64
	sum         content.Digest
	sha512      string // in hexadecimal, where sum is not told
	last        bool
}

// pile gathers files in any order and gives them in that of content.ComparePaths.
type pile struct {
	o     *Options
	files []filed
	bad   []Bad
	next  int // the length at which it is compacted; 0: compactAt
	most  int // files at most; 0: MaxEntries
	names int // bytes of the names of files
	long  int // bytes of them at most; 0: maxNameBytes
}

func (p *pile) refuse(path string, err error) {
	if len(p.bad) < maxBad {
		if len(path) > content.MaxPath { // ten thousand of these are kept
			path = strings.Clone(path[:content.MaxPath])
		}
		p.bad = append(p.bad, Bad{path, err})
	}
}

// add takes a file, if it is wanted and its name can be published.
func (p *pile) add(f filed) error {
	if err := content.CheckPath(f.path); err != nil {
		p.refuse(f.path, err)
		return nil
	}
	if f.size < SizeUnknown {
		p.refuse(f.path, fmt.Errorf("%q has a size of %d bytes", f.path, f.size))
		return nil
	}
	if !p.wanted(f.path) {
		return nil
	}
	p.files = append(p.files, f)
	p.names += f.nameBytes()
	most, long := cmp.Or(p.most, MaxEntries), cmp.Or(p.long, maxNameBytes)
	if len(p.files) < min(cmp.Or(p.next, compactAt), 2*most) && p.names < 2*long {
		return nil
	}
	p.compact()
	p.next = 2 * max(len(p.files), cmp.Or(p.next, compactAt)/2)
	switch {
	case len(p.files) > most:
		return &RefusedError{Reason: "the repository names more than " + strconv.Itoa(most) + " files: publish parts of it"}
	case p.names > long:
		return &RefusedError{Reason: fmt.Sprintf("the names of the repository's files have more than %d bytes together: publish parts of it", long)}
	}
	return nil
}

// nameBytes is what a file takes beside its place in the pile.
func (f *filed) nameBytes() int { return len(f.path) + len(f.fetch) + len(f.sha512) }

// wanted is Options.wanted, also for the directories that the file is in.
func (p *pile) wanted(path string) bool {
	if len(p.o.Exclude) > 0 {
		for i, c := range path {
			if c == '/' && matches(p.o.Exclude, path[:i]) {
				return false
			}
		}
	}
	return p.o.wanted(path)
}

// compact sorts, and makes one of what is the same. What is named with two hashes is not published.
func (p *pile) compact() {
	slices.SortStableFunc(p.files, func(a, b filed) int { return content.ComparePaths(a.path, b.path) })
	kept := p.files[:0]
	p.names = 0
	for i := 0; i < len(p.files); {
		f, differs := p.files[i], false
		dead := f.size < SizeUnknown
		for i++; i < len(p.files) && p.files[i].path == f.path; i++ {
			g := p.files[i]
			dead = dead || g.size < SizeUnknown
			differs = differs || g.sum != f.sum || g.sha512 != f.sha512 || g.size != f.size && g.size >= 0 && f.size >= 0
			f.size = max(f.size, g.size)
		}
		if differs && !dead {
			p.refuse(f.path, fmt.Errorf("%q is named twice, with different hashes or sizes: the repository is broken there", f.path))
		}
		if differs || dead {
			f.size = SizeUnknown - 1 // it stays, so that a third name does not bring it back
		}
		kept = append(kept, f)
		p.names += f.nameBytes()
	}
	clear(p.files[len(kept):])
	p.files = kept
}

// emit calls each for every file, and for the directories that they are in.
func (p *pile) emit(each func(Entry) error) error {
	p.compact()
	count, dir, file := 0, "", "" // the last directory and file that were given
	give := func(e Entry) error {
		if count++; count > MaxEntries {
			return &RefusedError{Reason: "the repository has more than " + strconv.Itoa(MaxEntries) + " files and directories: publish parts of it"}
		}
		return each(e)
	}
	for _, f := range p.files {
		switch {
		case f.size < SizeUnknown:
			continue
		case file != "" && strings.HasPrefix(f.path, file+"/"):
			p.refuse(f.path, fmt.Errorf("%q is named as a file and as a directory", file))
			continue
		}
		for i, c := range f.path {
			if parent := f.path[:i]; c == '/' && dir != parent && !strings.HasPrefix(dir, parent+"/") {
				if err := give(Entry{Path: parent, Mode: content.ModeDir | 0o755}); err != nil {
					return err
				}
				dir = parent
			}
		}
		dir, file = f.path[:max(strings.LastIndexByte(f.path, '/'), 0)], f.path
		if err := give(f.entry()); err != nil {
			return err
		}
	}
	return nil
}

func (f *filed) entry() Entry {
	e := Entry{Path: f.path, Mode: content.ModeFile | 0o644, Size: f.size, SHA256: f.sum, Fetch: f.fetch, Last: f.last}
	switch {
	case !f.sum.IsZero():
		e.Stamp = f.sum.String()
	case f.sha512 != "":
		e.Stamp = stamp512 + f.sha512
	}
	return e
}
