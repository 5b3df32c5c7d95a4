package faulty

import (
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
)

// Fate is what a crash makes of an operation that was not synced.
type Fate int

// The fates.
const (
	Kept  Fate = iota
	Lost       // it never happened
	Zeros      // a write: the file has its new size, and zeros or the old bytes where the new ones belong
	Torn       // a write: some sectors have the new bytes, for the others it is Zeros
)

// sector is what a disk writes in one piece.
const sector = 512

// Crash decides the fate of operations that were not synced. last says that it is the last one before the crash.
type Crash struct {
	Name string
	Fate func(op Op, last bool) Fate
	rng  *rand.Rand // which sectors of a torn write are new
}

// Killed is the end of the process alone: the kernel goes on and nothing is lost.
var Killed = Crash{Name: "killed", Fate: func(Op, bool) Fate { return Kept }}

// PowerCuts are crashes of the machine: everything unsynced lost, only names kept, only data kept, the last write torn,
// and as many as random that choose for each operation by itself.
func PowerCuts(seed uint64, random int) []Crash {
	rng := rand.New(rand.NewPCG(seed, 1))
	name := func(op Op) bool { return op.isName() }
	choose := func(yes bool, a, b Fate) Fate {
		if yes {
			return a
		}
		return b
	}
	all := []Crash{
		{"all lost", func(Op, bool) Fate { return Lost }, rng},
		{"names kept, data lost", func(op Op, _ bool) Fate { return choose(name(op), Kept, Lost) }, rng},
		{"names kept, data zeros", func(op Op, _ bool) Fate { return choose(name(op), Kept, Zeros) }, rng},
		{"names lost, data kept", func(op Op, _ bool) Fate { return choose(name(op), Lost, Kept) }, rng},
		{"last write torn", func(op Op, last bool) Fate { return choose(last, Torn, Kept) }, rng},
		{"last kept, earlier lost", func(op Op, last bool) Fate { return choose(last || name(op), Kept, Lost) }, rng},
	}
	for range random {
		all = append(all, Crash{"random", func(Op, bool) Fate { return Fate(rng.IntN(4)) }, rng})
	}
	return all
}

func (op Op) isName() bool {
	switch op.Kind {
	case Create, Mkdir, Rename, Remove, Link:
		return true
	}
	return false
}

// scope is what has to be synced to make op durable: a directory or a file.
func (op Op) scope() any {
	switch {
	case op.Kind == SyncDir:
		return op.Path
	case op.Kind == Rename:
		return filepath.Dir(op.To)
	case op.isName():
		return filepath.Dir(op.Path)
	}
	return op.File
}

// synced says for each operation whether it is durable. A sync that failed leaves everything before it in doubt for ever.
func synced(ops []Op) []bool {
	done := make([]bool, len(ops))
	next := map[any]bool{} // scope -> what the next sync made of it
	for i, op := range slices.Backward(ops) {
		if op.Kind == Sync || op.Kind == SyncDir {
			next[op.scope()] = !op.Failed
		}
		done[i] = next[op.scope()]
	}
	return done
}

// image is a directory as a crash leaves it.
type image struct {
	files map[int][]byte
	names map[string]int
	dirs  map[string]bool
}

// after gives what c leaves after the first n operations.
func (f *FS) after(n int, c Crash) image {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := image{files: map[int][]byte{}, names: maps.Clone(f.first), dirs: map[string]bool{".": true}}
	for id, data := range f.base {
		m.files[id] = slices.Clone(data)
	}
	for _, d := range f.dirs {
		m.dirs[d] = true
	}
	done := synced(f.ops[:n])
	for i, op := range f.ops[:n] {
		fate := Kept
		if !done[i] {
			fate = c.Fate(op, i == n-1)
		}
		if fate != Lost && (fate == Kept || op.Kind == Write) {
			m.apply(op, fate, c.rng)
		}
	}
	return m
}

func (m image) apply(op Op, fate Fate, rng *rand.Rand) {
	switch op.Kind {
	case Create, Link:
		m.names[op.Path] = op.File
	case Mkdir:
		m.dirs[op.Path] = true
	case Rename:
		if m.names[op.Path] == op.File {
			delete(m.names, op.Path)
		}
		m.names[op.To] = op.File
	case Remove:
		delete(m.dirs, op.Path)
		if m.names[op.Path] == op.File {
			delete(m.names, op.Path)
		}
	case Truncate:
		m.files[op.File] = resize(m.files[op.File], op.Off)
	case Punch:
		data := m.files[op.File]
		clear(data[min(op.Off, int64(len(data))):min(op.Off+op.Len, int64(len(data)))])
	case Write:
		data := m.files[op.File]
		data = resize(data, max(int64(len(data)), op.Off+int64(len(op.Data))))
		m.files[op.File] = data
		for at := int64(0); at < int64(len(op.Data)); { // sectors are those of the file
			end := min(int64(len(op.Data)), (op.Off+at)/sector*sector+sector-op.Off)
			if fate == Kept || fate == Torn && rng.IntN(2) == 0 {
				copy(data[op.Off+at:], op.Data[at:end])
			}
			at = end
		}
	}
}

func resize(data []byte, size int64) []byte {
	if int64(len(data)) >= size {
		return data[:size:size]
	}
	return append(data, make([]byte, size-int64(len(data)))...)
}

// write lays the image out in an empty directory.
func (m image) write(dir string) error {
	for _, d := range slices.Sorted(maps.Keys(m.dirs)) {
		if m.dirs[filepath.Dir(d)] {
			if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
				return err
			}
		}
	}
	for name, id := range m.names {
		if !m.dirs[filepath.Dir(name)] {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), m.files[id], 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Crash lays out in dir, an empty directory, what c leaves after the first n operations, and gives an FS to go on with.
// After Killed what was not synced still is not, and a later power cut can take it away.
func (f *FS) Crash(n int, c Crash, dir string) (*FS, error) {
	m := f.after(n, c)
	if err := m.write(dir); err != nil {
		return nil, err
	}
	if c.Name != Killed.Name {
		return New(dir)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return &FS{root: dir, ops: slices.Clone(f.ops[:n]), base: maps.Clone(f.base), first: f.first, dirs: f.dirs,
		names: m.names, open: map[*os.File]int{}, next: f.next}, nil
}
