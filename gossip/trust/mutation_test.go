package trust

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"swarmnode/content"
	"swarmnode/gossip"
)

// wrong are the values that take the place of each node of a document.
func wrong() []any {
	deep := any("x")
	for range 2000 {
		deep = []any{deep}
	}
	return []any{nil, 0, -1, 1e300, "", "x", true, []any{}, map[string]any{}, []any{nil}, map[string]any{"a": nil}, strings.Repeat("9", 5000), deep}
}

// mutate calls try with each variant of a document in which one node is replaced, left out or there twice. The document is
// changed in place and whole again afterwards.
func mutate(at string, node any, try func(what string)) {
	switch n := node.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(n)) {
			old := n[key]
			for i, w := range wrong() {
				n[key] = w
				try(fmt.Sprintf("%s.%s is wrong %d", at, key, i))
			}
			delete(n, key)
			try(fmt.Sprintf("%s.%s left out", at, key))
			n[key], n[key+"-copy"] = old, old
			try(fmt.Sprintf("%s.%s twice", at, key))
			delete(n, key+"-copy")
			mutate(at+"."+key, old, try)
		}
	case []any:
		for i, old := range n {
			for j, w := range wrong() {
				n[i] = w
				try(fmt.Sprintf("%s[%d] is wrong %d", at, i, j))
			}
			n[i] = old
			mutate(fmt.Sprintf("%s[%d]", at, i), old, try)
		}
	}
}

// resigned signs a changed document with the true keys if the library can read it, else gives it as it is.
func resigned[T metadata.Roles](raw []byte, role string, p *publisher) (out []byte) {
	defer func() {
		if recover() != nil { // the library cannot read it; the verifier has to
			out = raw
		}
	}()
	m := new(metadata.Metadata[T])
	if json.Unmarshal(raw, m) != nil {
		return raw
	}
	signed, err := sign(m, p.keys.first(role))
	if err != nil {
		return raw
	}
	return signed
}

// TestMutations replaces every node of every file and signs again with the true keys, up to the timestamp: whatever a
// publisher gone mad may sign, no panic is left for recover, and what is accepted says what the good one says. All variants are for
// .ci/run; else every fourth, so that each wrong value (there are 13, and 15 variants of a member) has its turn.
func TestMutations(t *testing.T) {
	t.Parallel()
	p := newPublisher(t, Lifetimes{})
	p.sign(start, 1, "one")
	r := p.joined(start)
	next := release(2, "two")
	next.Targets = []SignedFile{{Path: SumsTarget, Size: 3, SHA256: content.Sum([]byte("abc"))}}
	good, err := p.signer.Sign(start, next)
	if err != nil {
		t.Fatal(err)
	}
	accepted, tried, seen := 0, 0, 0
	for _, role := range []string{roleTimestamp, roleSnapshot, roleTargets, roleRelease} {
		name := roleFile(role)
		for n := range good.Files {
			if strings.HasSuffix(n, "."+name) {
				name = n
			}
		}
		var doc map[string]any
		if err := json.Unmarshal(good.Files[name], &doc); err != nil {
			t.Fatal(err)
		}
		mutate(role, doc, func(what string) {
			if seen++; !thorough && seen%4 != 0 {
				return
			}
			tried++
			raw, err := json.Marshal(doc)
			if err != nil {
				t.Fatal(err)
			}
			b := p.rebuilt(good, role, name, raw)
			set, err := r.verify(start, r.head, b.Files)
			if n := r.stats.Panics; n != 0 {
				t.Fatalf("%s: %v", what, err)
			}
			if err != nil {
				return
			}
			accepted++
			if h := set.head; h.Release < 2 || CheckName(h.Name) != nil || h.Collection != p.keys.ID() || h.Manifest != release(2, "two").Manifest {
				t.Errorf("%s: accepted as %+v", what, h)
			}
		})
	}
	t.Logf("%d of %d variants accepted, of %d that there are", accepted, tried, seen)
}

// rebuilt puts a changed file into a bundle and signs it and everything above it again.
func (p *publisher) rebuilt(good gossip.Bundle, role, name string, raw []byte) gossip.Bundle {
	p.t.Helper()
	if role == roleTimestamp {
		return with(good, name, resigned[metadata.TimestampType](raw, role, p))
	}
	ts, err := metadata.Timestamp().FromBytes(good.Files[timestampFile])
	if err != nil {
		p.t.Fatal(err)
	}
	snapName := versioned(ts.Signed.Meta["snapshot.json"].Version, roleSnapshot)
	if role == roleSnapshot {
		raw = resigned[metadata.SnapshotType](raw, role, p)
	} else {
		raw = resigned[metadata.TargetsType](raw, role, p)
		snap, err := metadata.Snapshot().FromBytes(good.Files[snapName])
		if err != nil {
			p.t.Fatal(err)
		}
		bind(snap.Signed.Meta[role+".json"], raw)
		good = with(good, name, raw)
		if raw, err = sign(snap, p.keys.first(roleSnapshot)); err != nil {
			p.t.Fatal(err)
		}
	}
	bind(ts.Signed.Meta["snapshot.json"], raw)
	top, err := sign(ts, p.keys.first(roleTimestamp))
	if err != nil {
		p.t.Fatal(err)
	}
	return with(with(good, snapName, raw), timestampFile, top)
}

func bind(entry *metadata.MetaFiles, raw []byte) {
	fresh := (&stock{hashed: true}).entry(raw, entry.Version)
	entry.Length, entry.Hashes = fresh.Length, fresh.Hashes
}
