package origin

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"swarmnode/content"
)

// What apt and rpm repositories have in common: metadata that is read, checked and kept in memory, so that what is published is
// the very bytes that were checked.

const (
	// switchTries is how often a repository is read whose metadata contradicts itself, because it changes in the middle.
	switchTries = 3
	// switchPause is the pause before the second of these tries; that before the third is twice as long.
	switchPause = 5 * time.Second
	// maxHeldBytes is how much checked metadata is kept in memory: the indexes of Debian's main section for two architectures, compressed.
	maxHeldBytes = 128 << 20
	// maxUnpackedBytes is how long an index may be once unpacked: twelve times that of Debian's largest.
	maxUnpackedBytes = 1 << 30
	// maxReadBytes is how long all indexes of one listing may be once unpacked: three times those of all suites and architectures that Debian has
	// today. A hundred thousand of them, each as long as one may be, would take weeks.
	maxReadBytes = 16 << 30
)

// errSwitched is the cause of errors of metadata that contradicts itself: most likely the repository is being written.
var errSwitched = errors.New("the repository changes while it is read, or is broken")

// errTooLong is the cause of errors of metadata that goes on where it should have ended.
var errTooLong = errors.New("it is longer than metadata of its kind may be")

// errReadBytes ends a listing of which no index alone is too long.
var errReadBytes = &RefusedError{Reason: "unpacked the indexes of the repository are longer than those of any distribution: publish fewer suites, components or architectures of it"}

// A source is where the files of a repository are.
type source interface {
	// Open is that of Origin; the path to fetch is Entry.Path.
	Open(ctx context.Context, e Entry, offset int64, version string) (*Body, error)
	// openIf opens a file if it is not the one any more that had the validator; else the error is ErrUnchanged. It gives the new
	// validator too, "" if there is none.
	openIf(ctx context.Context, path, validator string) (*Body, string, error)
	// size asks for the size of a file, or SizeUnknown, without reading it. fs.ErrNotExist says that there is none.
	size(ctx context.Context, path string) (int64, error)
	Close() error
}

// repository is the part of an origin that reads metadata.
type repository struct {
	source
	o       Options
	keys    *keyring // nil: no signature is checked
	pause   time.Duration
	now     func() time.Time
	shown   string    // the address, without a password
	warn    sync.Once // that nothing is checked
	longest int64     // bytes of an unpacked index
	all     int64     // bytes of all unpacked indexes of a listing
	left    int64     // of these, for the listing that goes on

	twins [64]sync.Mutex // by the first byte of a digest: the first of several that open an index with several names fetches it

	mu       sync.Mutex // guards what follows
	held     map[content.Digest]*heldFile
	requests int
	idle     int // listings since the last one that gave anything
}

// heldFile is metadata that was checked, as it was transferred.
type heldFile struct {
	data  []byte
	mtime int64
	used  bool // by the listing that goes on or was the last
}

func newRepository(s source, o Options) (*repository, error) {
	r := &repository{source: s, o: o, pause: switchPause, now: time.Now, longest: maxUnpackedBytes, all: maxReadBytes, held: map[content.Digest]*heldFile{}}
	if o.Keyring != "" {
		keys, err := readKeyring(o.Keyring)
		if err != nil {
			return nil, err
		}
		r.keys = keys
	}
	return r, nil
}

// Open gives metadata from memory, as it was checked, and everything else from the source. Where a name by hash is not there, the
// plain name is tried.
func (r *repository) Open(ctx context.Context, e Entry, offset int64, version string) (*Body, error) {
	if !e.SHA256.IsZero() {
		if h := r.hold(e.SHA256); h != nil {
			return h.body(e.SHA256, offset, version), nil
		}
	}
	if e.Last && e.Fetch != "" && e.Size >= 0 && r.room(e.Size) {
		if body := r.openTwin(ctx, e, offset, version); body != nil {
			return body, nil
		}
	}
	sum, only512 := strings.CutPrefix(e.Stamp, stamp512)
	if only512 {
		offset, version = 0, "" // the whole has to be hashed
	}
	plain := e.Path
	e.Path, e.Fetch = cmp.Or(e.Fetch, e.Path), ""
	body, err := r.source.Open(ctx, e, offset, version)
	if absent(err) && e.Path != plain {
		e.Path = plain
		body, err = r.source.Open(ctx, e, offset, version)
	}
	if err == nil && only512 {
		body.ReadCloser = &hashedBody{ReadCloser: body.ReadCloser, hash: sha512.New(), want: sum, path: e.Path}
		body.Version = ""
	}
	return body, err
}

// openTwin fetches an index that has names by hash too into memory, where the next name finds it. nil: it has to be read from the source.
func (r *repository) openTwin(ctx context.Context, e Entry, offset int64, version string) *Body {
	m := &r.twins[int(e.SHA256[0])%len(r.twins)]
	m.Lock()
	defer m.Unlock()
	if _, err := r.fetchChecked(ctx, filed{path: e.Path, fetch: e.Fetch, size: e.Size, sum: e.SHA256}); err != nil {
		return nil // the source will say it better
	}
	if h := r.hold(e.SHA256); h != nil {
		return h.body(e.SHA256, offset, version)
	}
	return nil
}

// unpack reads an index, within what is left for the listing.
func (r *repository) unpack(name string, data []byte) (io.ReadCloser, error) {
	in, err := unpack(name, data, r.longest)
	if err != nil {
		return nil, err
	}
	return &metered{in, &r.left}, nil
}

// metered ends with an error when what several may read together is used up.
type metered struct {
	io.ReadCloser
	left *int64
}

func (m *metered) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	if *m.left -= int64(n); *m.left < 0 {
		return 0, errReadBytes
	}
	return n, err
}

// room reports whether metadata of this size could be held.
func (r *repository) room(size int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return size <= MaxDirectoryBytes && int64(r.heldBytes())+size <= maxHeldBytes
}

// heldBytes is how much metadata is held that the last listing needs. r.mu is held.
func (r *repository) heldBytes() (n int) {
	for _, h := range r.held {
		if h.used {
			n += len(h.data)
		}
	}
	return n
}

// hashedBody ends with an error if what was read is not what the metadata says.
type hashedBody struct {
	io.ReadCloser
	hash       hash.Hash
	want, path string
}

func (h *hashedBody) Read(p []byte) (int, error) {
	n, err := h.ReadCloser.Read(p)
	h.hash.Write(p[:n])
	if errors.Is(err, io.EOF) && hex.EncodeToString(h.hash.Sum(nil)) != h.want {
		return n, fmt.Errorf("%q has not the SHA512 that its index says", h.path)
	}
	return n, err
}

func (r *repository) hold(d content.Digest) *heldFile {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held[d]
}

// body reads what is in memory: it is what it was, so a read may always go on.
func (h *heldFile) body(d content.Digest, offset int64, version string) *Body {
	if version != d.String() || offset < 0 || offset > int64(len(h.data)) {
		offset = 0
	}
	return &Body{
		ReadCloser: io.NopCloser(bytes.NewReader(h.data[offset:])),
		Offset:     offset, Size: int64(len(h.data)), Mtime: h.mtime, Version: d.String(),
		Still: func(context.Context) (bool, error) { return true, nil },
	}
}

// begin starts a listing: nothing that is held has been used by it.
func (r *repository) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests, r.left = 0, r.all
	for _, h := range r.held {
		h.used = false
	}
}

// finish lets go of metadata that the listing did not need. Of a run that found nothing changed, when it asked first and not when it
// asked once more, no file will be opened: nothing is held until something has changed.
func (r *repository) finish(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil:
		r.idle = 0
	case errors.Is(err, ErrUnchanged):
		r.idle++
	}
	for d, h := range r.held {
		if err == nil && !h.used || r.idle > 1 {
			delete(r.held, d)
		}
	}
}

// keep holds checked metadata if there is room for it. must says that nothing else can give it: it is held anyway, and has its own limit.
func (r *repository) keep(data []byte, mtime int64, must bool) content.Digest {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := content.Sum(data)
	if must || r.heldBytes()+len(data) <= maxHeldBytes {
		r.held[d] = &heldFile{data: data, mtime: mtime, used: true}
	}
	return d
}

// asked counts a request.
func (r *repository) asked() {
	r.mu.Lock()
	r.requests++
	r.mu.Unlock()
}

func (r *repository) asks() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.requests
}

// fetch reads a whole file of at most limit bytes.
func (r *repository) fetch(ctx context.Context, path string, limit int64) (data []byte, mtime int64, err error) {
	data, mtime, _, err = r.fetchIf(ctx, path, "", limit)
	return data, mtime, err
}

// fetchIf reads a whole file of at most limit bytes, if it is not the one of the validator.
func (r *repository) fetchIf(ctx context.Context, path, validator string, limit int64) (data []byte, mtime int64, now string, err error) {
	err = Retry(ctx, func() error {
		r.asked()
		body, v, err := r.openIf(ctx, path, validator)
		if err != nil {
			return fmt.Errorf("fetch %q: %w", path, err)
		}
		defer body.Close()
		data, err = io.ReadAll(io.LimitReader(body, limit+1))
		switch {
		case err != nil:
			return fmt.Errorf("fetch %q: %w", path, err)
		case int64(len(data)) > limit:
			return &RefusedError{Reason: fmt.Sprintf("%q has more than %d bytes", path, limit), Cause: errTooLong}
		case body.Size >= 0 && body.Size != int64(len(data)):
			return fmt.Errorf("fetch %q: %d bytes came, of %d that were told", path, len(data), body.Size)
		}
		mtime, now = body.Mtime, v
		return nil
	})
	return data, mtime, now, err
}

// fetchChecked gives metadata that is named with its size and hash: from memory, by its name by hash if it has one, or by its plain name.
func (r *repository) fetchChecked(ctx context.Context, f filed) ([]byte, error) {
	r.mu.Lock()
	if h := r.held[f.sum]; h != nil {
		h.used = true
		r.mu.Unlock()
		return h.data, nil
	}
	r.mu.Unlock()
	if f.size > MaxDirectoryBytes {
		return nil, &RefusedError{Reason: fmt.Sprintf("%q has %d bytes, metadata may have %d: publish parts of the repository, or its files without its metadata", f.path, f.size, int64(MaxDirectoryBytes))}
	}
	limit := f.size
	if limit < 0 {
		limit = MaxDirectoryBytes
	}
	data, mtime, err := r.fetch(ctx, cmp.Or(f.fetch, f.path), limit)
	if absent(err) && f.fetch != "" {
		data, mtime, err = r.fetch(ctx, f.path, limit)
	}
	switch {
	case absent(err), errors.Is(err, errTooLong) && f.size >= 0:
		return nil, fmt.Errorf("%w: %w", errSwitched, err)
	case err != nil:
		return nil, err
	case f.size >= 0 && f.size != int64(len(data)):
		return nil, fmt.Errorf("%w: %q has %d bytes, and its index says %d", errSwitched, f.path, len(data), f.size)
	case f.sum.IsZero() && sha512Hex(data) != f.sha512, !f.sum.IsZero() && content.Sum(data) != f.sum:
		return nil, fmt.Errorf("%w: %q has not the hash that its index says", errSwitched, f.path)
	}
	r.keep(data, mtime, false)
	return data, nil
}

func sha512Hex(data []byte) string {
	sum := sha512.Sum512(data)
	return hex.EncodeToString(sum[:])
}

// present asks which of the files are there, several at a time, and gives those, in their order. What the last run published with
// the same hash is there.
func (r *repository) present(ctx context.Context, before Before, files []filed) ([]filed, error) {
	there := make([]bool, len(files))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(r.o.Connections)
	for i := range files {
		f := &files[i]
		if was, ok := before.Find(f.path); ok && was.SHA256 == f.sum && !f.sum.IsZero() || r.hold(f.sum) != nil {
			there[i] = true
			continue
		}
		group.Go(func() (err error) {
			there[i], err = r.probe(ctx, f)
			return err
		})
	}
	err := group.Wait()
	var found []filed
	for i, f := range files {
		if there[i] {
			found = append(found, f)
		}
	}
	return found, err
}

// absent reports whether a file is not there: some stores say that it is forbidden.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) && !errors.Is(err, errWithheld)
}

// probe asks for one file, by its name by hash first; if only the plain name is there, f has no other afterwards.
func (r *repository) probe(ctx context.Context, f *filed) (bool, error) {
	for {
		var size int64
		err := Retry(ctx, func() (err error) {
			r.asked()
			size, err = r.source.size(ctx, cmp.Or(f.fetch, f.path))
			return err
		})
		switch {
		case err == nil && f.size >= 0 && size >= 0 && size != f.size:
			return false, fmt.Errorf("%w: %q has %d bytes, and its index says %d", errSwitched, cmp.Or(f.fetch, f.path), size, f.size)
		case err == nil:
			return true, nil
		case !absent(err):
			return false, fmt.Errorf("ask for %q: %w", cmp.Or(f.fetch, f.path), err)
		case f.fetch == "":
			return false, nil
		}
		f.fetch = ""
	}
}

// settled calls list until the metadata does not contradict itself, a few times.
func (r *repository) settled(ctx context.Context, list func(last bool) (Listing, error)) (Listing, error) {
	r.warn.Do(func() {
		if r.keys == nil {
			r.o.Log.Warn("no keyring: whatever the repository says is published as it is; with its keys its signature is checked", "origin", r.shown)
		}
	})
	requests, pause := 0, r.pause
	for try := 1; ; try++ {
		r.begin()
		told, err := list(try == switchTries)
		requests += r.asks()
		told.Requests = requests
		r.finish(err)
		if !errors.Is(err, errSwitched) || try == switchTries {
			return told, err
		}
		r.o.Log.Debug("the repository contradicts itself, it is read again", "try", try, "error", err)
		select {
		case <-ctx.Done():
			return told, ctx.Err()
		case <-time.After(pause):
		}
		pause *= 2
	}
}
