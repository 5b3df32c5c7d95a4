//go:build unix

package publish

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"

	"swarmnode/content"
	"swarmnode/content/origin"
)

// fakeFile is a file, symlink ("-> target" in text) or directory ("" and dir) of a fakeOrigin.
type fakeFile struct {
	text  string
	mtime int64 // seconds
	dir   bool
	link  string
	mode  uint32

	plain  bool   // the listing has no stamp
	young  bool   // the stamp is another one once the file is old enough
	vague  bool   // the listing does not tell the size
	signed bool   // the metadata tell the SHA-256
	last   bool   // an index
	silent bool   // nobody tells when it was changed
	lie    string // what comes instead of text, with its size
}

// fakeOrigin is a tree in memory that fails when it is told to.
type fakeOrigin struct {
	mu    sync.Mutex // guards all
	files map[string]fakeFile
	opens []string // path@offset
	lists int

	// onList and onOpen are called before a listing and an opening; they may change files.
	onList func(n int) error
	onOpen func(path string, n int) error
	cut    map[string]int  // how many bytes come of a path before the connection is cut; each time it is opened
	torn   map[string]bool // Still says no, once
	lost   map[string]bool // Still gets no answer, once
	bad    []origin.Bad
	// wrap, if not nil, changes how a file that was opened comes.
	wrap func(ctx context.Context, path string, r io.Reader) io.Reader
	cond bool // a listing with the memo of an equal state is ErrUnchanged
}

func newFake(files map[string]fakeFile) *fakeOrigin {
	o := &fakeOrigin{files: map[string]fakeFile{}, cut: map[string]int{}, torn: map[string]bool{}, lost: map[string]bool{}}
	for p, f := range files {
		o.put(p, f)
	}
	return o
}

// put adds a file, and the directories that it is in.
func (o *fakeOrigin) put(path string, f fakeFile) {
	o.files[path] = f
	for i := range path {
		if path[i] == '/' {
			if d := o.files[path[:i]]; !d.dir {
				o.files[path[:i]] = fakeFile{dir: true}
			}
		}
	}
}

func (o *fakeOrigin) edit(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f()
}

// remove takes a path out, and all below it.
func (o *fakeOrigin) remove(path string) {
	for p := range o.files {
		if p == path || strings.HasPrefix(p, path+"/") {
			delete(o.files, p)
		}
	}
}

func (o *fakeOrigin) paths() []string {
	return slices.SortedFunc(maps.Keys(o.files), content.ComparePaths)
}

func (f *fakeFile) stamp() string { return fmt.Sprintf("%d-%d", f.mtime, len(f.text)) }

func (f *fakeFile) entry(path string) origin.Entry {
	e := origin.Entry{Path: path, Mode: content.ModeFile | cmp.Or(f.mode, 0o644), Size: int64(len(f.text)), Mtime: f.mtime * 1e9, Last: f.last}
	switch {
	case f.dir:
		return origin.Entry{Path: path, Mode: content.ModeDir | 0o755}
	case f.link != "":
		return origin.Entry{Path: path, Mode: content.ModeLink | 0o777, Target: f.link, Mtime: f.mtime * 1e9}
	}
	if !f.plain {
		e.Stamp = f.stamp()
		if f.young {
			e.Stamp += " young"
		}
	}
	if f.vague {
		e.Size = origin.SizeUnknown
	}
	if f.silent {
		e.Mtime = 0
	}
	if f.signed {
		e.SHA256 = content.Sum([]byte(f.text))
	}
	return e
}

func (o *fakeOrigin) state() string { return content.Sum(fmt.Append(nil, o.files)).String() }

func (o *fakeOrigin) List(ctx context.Context, before origin.Before, each func(origin.Entry) error) (origin.Listing, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := o.lists
	o.lists++
	told := origin.Listing{Requests: 1, Bad: o.bad}
	if o.onList != nil {
		if err := o.onList(n); err != nil {
			return told, err
		}
	}
	if o.cond {
		told.Memo = map[string]string{"state": o.state()}
		if before.Memo["state"] == o.state() {
			return told, origin.ErrUnchanged
		}
	}
	for _, p := range o.paths() {
		f := o.files[p]
		if err := each(f.entry(p)); err != nil {
			return told, err
		}
	}
	return told, nil
}

func (o *fakeOrigin) Open(ctx context.Context, e origin.Entry, offset int64, version string) (*origin.Body, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := len(o.opens)
	o.opens = append(o.opens, fmt.Sprintf("%s@%d", e.Path, offset))
	if o.onOpen != nil {
		if err := o.onOpen(e.Path, n); err != nil {
			return nil, err
		}
	}
	f, ok := o.files[e.Path]
	if !ok {
		return nil, origin.ErrGone
	}
	if version != f.stamp() {
		offset = 0
	}
	text := cmp.Or(f.lie, f.text)
	body := &origin.Body{Offset: offset, Size: int64(len(text)), Mtime: f.mtime*1e9 + 5, Version: f.stamp()}
	if f.silent {
		body.Mtime = 0
	}
	if f.vague {
		body.Size = origin.SizeUnknown
	}
	var r io.Reader = strings.NewReader(text[offset:])
	if at, ok := o.cut[e.Path]; ok && at < len(text)-int(offset) {
		r = io.MultiReader(bytes.NewReader([]byte(text)[offset:int(offset)+at]), broken{})
	}
	if o.wrap != nil {
		r = o.wrap(ctx, e.Path, r)
	}
	body.ReadCloser = io.NopCloser(r)
	torn := o.torn[e.Path]
	delete(o.torn, e.Path)
	lost := o.lost[e.Path]
	delete(o.lost, e.Path)
	body.Still = func(context.Context) (bool, error) { return !torn, errIf(lost, errCut) }
	return body, nil
}

func (o *fakeOrigin) Close() error { return nil }

// comparing is a fakeOrigin that goes on only after what is the beginning of the file.
type comparing struct{ *fakeOrigin }

func (o comparing) OpenAfter(ctx context.Context, e origin.Entry, have io.ReaderAt, offset int64, version string) (*origin.Body, error) {
	had := make([]byte, offset+1)
	n, err := have.ReadAt(had, 0)
	o.mu.Lock()
	if f := o.files[e.Path]; int64(n) != offset || err != io.EOF || !strings.HasPrefix(f.text, string(had[:n])) {
		offset = 0
	}
	o.mu.Unlock()
	return o.Open(ctx, e, offset, version)
}

// broken is a connection that is cut.
type broken struct{}

var errCut = errors.New("connection reset by peer")

func (broken) Read([]byte) (int, error) { return 0, errCut }

// tryAtOnce is origin.Retry without pauses.
func tryAtOnce(ctx context.Context, try func() error) (err error) {
	refused := (*origin.RefusedError)(nil)
	for range 5 {
		if err = try(); err == nil || errors.As(err, &refused) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || ctx.Err() != nil {
			return err
		}
	}
	return err
}

// opened gives what was opened since the last call.
func (o *fakeOrigin) opened() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := o.opens
	o.opens = nil
	slices.Sort(list)
	return list
}
