package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"swarmnode/content"
	"swarmnode/content/durable/faulty"
	"swarmnode/content/store"
)

// packHistory is a Pack at work on a recording file system, and how many of its blocks were acknowledged when.
type packHistory struct {
	t        *testing.T
	fs       *faulty.FS
	dir      string
	p        *store.Pack
	put      map[int]bool
	promised []packPromise
}

type packPromise struct {
	after  int
	blocks map[int]bool
}

func (h *packHistory) reopen() (err error) {
	h.p, err = store.OpenPackOn(h.fs, filepath.Join(h.dir, "pack"))
	return err
}

func (h *packHistory) note(blocks map[int]bool) {
	h.promised = append(h.promised, packPromise{h.fs.Len(), blocks})
}

func (h *packHistory) last() map[int]bool {
	if len(h.promised) == 0 {
		return nil
	}
	return h.promised[len(h.promised)-1].blocks
}

func (h *packHistory) sync() error {
	err := h.p.Sync()
	if err == nil {
		all := map[int]bool{}
		for n := range h.put {
			all[n] = true
		}
		h.note(all)
	}
	return err
}

func (h *packHistory) steps() []func() error {
	put := func(blocks ...int) func() error {
		return func() (err error) {
			for _, n := range blocks {
				_, perr := h.p.Put(block(n))
				if err = errors.Join(err, perr); perr == nil {
					h.put[n] = true
				}
			}
			return err
		}
	}
	compact := func() error {
		kept := map[int]bool{}
		for n := range h.last() {
			if n != 1 {
				kept[n] = true
			}
		}
		h.note(kept)
		delete(h.put, 1)
		return h.p.Compact(func(d content.Digest) bool { return d != content.Sum(block(1)) })
	}
	return []func() error{put(1, 2), h.sync, put(3), compact, put(4), h.sync, compact, put(1, 5), h.sync}
}

// crash cuts the power after n operations and wants what was promised, and a pack that works.
func (h *packHistory) crash(what string, n int, c faulty.Crash) {
	h.t.Helper()
	what = fmt.Sprintf("%soperation %d, %s", what, n, c.Name)
	dir, err := os.MkdirTemp(h.t.TempDir(), "")
	must(h.t, err)
	fs, err := h.fs.Crash(n, c, dir)
	must(h.t, err)
	promised := map[int]bool{}
	for _, p := range h.promised {
		if p.after <= n {
			promised = p.blocks
		}
	}
	h.wantIntact(what, dir, fs, promised)
	again, err := os.MkdirTemp(h.t.TempDir(), "")
	must(h.t, err)
	next, err := fs.Crash(fs.Len(), faulty.PowerCuts(1, 0)[0], again)
	must(h.t, err)
	h.wantIntact(what+", then all lost", again, next, map[int]bool{1: true, 2: true, 3: true, 4: true, 5: true})
}

func (h *packHistory) wantIntact(what, dir string, fs *faulty.FS, promised map[int]bool) {
	h.t.Helper()
	p, err := store.OpenPackOn(fs, filepath.Join(dir, "pack"))
	if err != nil {
		h.t.Fatalf("%s: %v", what, err)
	}
	for n := 1; n <= 5; n++ {
		got, ok := p.Block(content.Sum(block(n)))
		if ok && !bytes.Equal(got, block(n)) {
			h.t.Fatalf("%s: block %d has wrong bytes", what, n)
		}
		if !ok && promised[n] {
			h.t.Fatalf("%s: block %d was acknowledged and is lost", what, n)
		}
		if _, err := p.Put(block(n)); err != nil {
			h.t.Fatalf("%s: put again: %v", what, err)
		}
	}
	if err := p.Sync(); err != nil {
		h.t.Fatalf("%s: %v", what, err)
	}
}

func newPackHistory(t *testing.T) *packHistory {
	h := &packHistory{t: t, dir: t.TempDir(), put: map[int]bool{}}
	h.fs = newFaulty(t, h.dir)
	return h
}

func TestPackPowerCut(t *testing.T) {
	t.Parallel()
	h := newPackHistory(t)
	must(t, h.reopen())
	for _, step := range h.steps() {
		must(t, step())
	}
	for n := range h.fs.Len() + 1 {
		for _, c := range append(faulty.PowerCuts(3, 3), faulty.Killed) {
			h.crash("", n, c)
		}
	}
}

func TestPackFaults(t *testing.T) {
	t.Parallel()
	first, stride, random := 0, 1, 2
	for _, fault := range []error{syscall.ENOSPC, syscall.EIO} {
		if !thorough { // the one has the even operations, the other the odd ones
			stride, random = 2, 0
		}
		for n, hit := first, true; hit; n += stride {
			h := newPackHistory(t)
			reached := failAt(h.fs, n, false, fault)
			what := fmt.Sprintf("operation %d: %v: ", n, fault)
			named := func(err error) {
				var at *os.PathError
				if err != nil && (!errors.Is(err, fault) || !errors.As(err, &at)) {
					t.Errorf("%sthe error names neither file nor cause: %v", what, err)
				}
			}
			if err := h.reopen(); err != nil {
				named(err)
				must(t, h.reopen())
			}
			for _, step := range h.steps() {
				named(step())
				for k := range h.put { // a failed sync drops what it could not make durable
					if !h.p.Has(content.Sum(block(k))) {
						delete(h.put, k)
					}
				}
			}
			h.fs.Fault = nil
			must(t, h.sync())
			for _, c := range faulty.PowerCuts(uint64(n), random) {
				h.crash(what, h.fs.Len(), c)
			}
			hit = reached.Load()
		}
		first = stride - 1
	}
}
