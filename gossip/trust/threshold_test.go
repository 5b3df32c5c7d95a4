package trust

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"swarmnode/gossip"
)

// newThreshold is a publisher whose keys of some roles, 2 of 3 each, are in folders of their holders.
func newThreshold(t *testing.T, offline ...string) (*publisher, string) {
	t.Helper()
	p := &publisher{t: t, dir: t.TempDir()}
	out := filepath.Join(t.TempDir(), "holders")
	plans := map[string]KeyPlan{}
	for _, role := range offline {
		plans[role] = KeyPlan{Keys: 3, Threshold: 2, Out: out}
	}
	if _, _, err := InitPlan(filepath.Join(p.dir, "keys"), start, p.life, plans); err != nil {
		t.Fatal(err)
	}
	p.reopen()
	return p, out
}

// signedBy sends copies of a request to holders, each a folder with keys, and merges what they send back.
func signedBy(t *testing.T, req *Request, holders ...string) *Request {
	t.Helper()
	raw, err := req.Encode()
	if err != nil {
		t.Fatal(err)
	}
	all, err := DecodeRequest(raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range holders {
		one, err := DecodeRequest(raw)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := one.SignFiles(h); err != nil {
			t.Fatal(err)
		}
		back, err := one.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if one, err = DecodeRequest(back); err != nil {
			t.Fatal(err)
		}
		if err := all.Merge(one); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func (p *publisher) prepare(number uint64, what string) *Request {
	p.t.Helper()
	req, err := p.signer.Prepare(start, release(number, what))
	if err != nil || req == nil {
		p.t.Fatalf("prepare: %v, %v", req, err)
	}
	return req
}

// TestOfflineRelease is the offline flow with everything but snapshot and timestamp elsewhere, and its refusals.
func TestOfflineRelease(t *testing.T) {
	t.Parallel()
	p, out := newThreshold(t, roleRoot, roleTargets, roleRelease)
	holder := func(n string) []string {
		return []string{filepath.Join(out, "targets-"+n), filepath.Join(out, "release-"+n)}
	}
	if _, err := p.signer.Sign(start, release(1, "one")); err == nil {
		t.Fatal("signed without keys")
	}
	req := p.prepare(1, "one")
	lines, err := req.Summary()
	if text := strings.Join(lines, "\n"); err != nil || !strings.Contains(text, "release 1 of debian") || !strings.Contains(text, "10 files") {
		t.Errorf("summary %v: %s", err, text)
	}
	half := signedBy(t, req, holder("1")...)
	var missing *MissingError
	if err := p.signer.Accept(start, half); !errors.As(err, &missing) || missing.Have != 1 || missing.Threshold != 2 || len(missing.Keys) != 2 {
		t.Errorf("accepted with one holder: %v", err)
	}
	full := signedBy(t, half, holder("3")...)
	p.reopen()
	if err := p.signer.Accept(start, full); err != nil {
		t.Fatal(err)
	}
	if err := p.signer.Accept(start, full); !errors.Is(err, ErrStale) {
		t.Errorf("accepted twice: %v", err)
	}
	p.reopen()
	r := p.joined(start)
	if h := r.Head(); h.Release != 1 {
		t.Fatalf("joiner at %d", h.Release)
	}
	if err := r.VerifyClaim(start, p.signer.Claim("12D3KooWpeer", start)); err != nil {
		t.Errorf("claim without the release keys: %v", err)
	}
	p.heartbeat(start)
	old := p.prepare(2, "two")
	if _, err := p.signer.Prepare(start, release(2, "other")); !errors.Is(err, gossip.ErrFork) {
		t.Errorf("the number was given twice: %v", err)
	}
	next := p.prepare(p.signer.Next()+1, "three")
	if err := p.signer.Accept(start, signedBy(t, old, holder("1")[1], holder("2")[1])); !errors.Is(err, ErrStale) {
		t.Errorf("accepted a stale request: %v", err)
	}
	q, _ := newThreshold(t, roleTargets)
	if err := q.signer.Accept(start, next); !errors.Is(err, ErrRequest) {
		t.Errorf("accepted the request of another collection: %v", err)
	}
	if _, err := next.SignFiles(filepath.Join(q.dir, "keys")); err == nil {
		t.Error("a stranger's key signed")
	}
	raw, _ := next.Encode()
	for _, change := range [][2]string{{`\"files\":10`, `\"files\":11`}, {`\"threshold\":2`, `\"threshold\":1`}} {
		signed, _ := signedBy(t, next, holder("1")[1]).Encode()
		bad := bytes.Replace(signed, []byte(change[0]), []byte(change[1]), 1)
		if _, err := DecodeRequest(bad); !errors.Is(err, ErrRequest) || bytes.Equal(bad, raw) {
			t.Errorf("tampered %s: %v", change[0], err)
		}
	}
	if err := p.signer.Accept(start, signedBy(t, next, holder("2")[1], holder("3")[1])); err != nil {
		t.Fatal(err)
	}
	if err := r.Refresh(t.Context(), start, p.signer.Source); err != nil || r.Head().Release != 3 {
		t.Errorf("release %d, %v", r.Head().Release, err)
	}
}

// TestLostKey replaces one key of root and of targets while the others are elsewhere; a node that slept follows.
func TestLostKey(t *testing.T) {
	t.Parallel()
	p, out := newThreshold(t, roleRoot, roleTargets)
	targets := []string{filepath.Join(out, "targets-1"), filepath.Join(out, "targets-2")}
	if err := p.signer.Accept(start, signedBy(t, p.prepare(1, "one"), targets...)); err != nil {
		t.Fatal(err)
	}
	p.sign(start, 1, "one")
	sleeper := p.joined(start)
	for i := range 2 {
		lost := p.keys.role(roleRoot).ids[0]
		fresh := filepath.Join(t.TempDir(), "fresh")
		req, err := p.signer.Rotate(start, Change{Role: roleRoot, Replace: []string{lost}, Plan: KeyPlan{Out: fresh}})
		if err != nil || req == nil {
			t.Fatal(req, err)
		}
		p.reopen() // the publisher goes on meanwhile
		p.sign(start, uint64(2+i), "more")
		if err := p.signer.Accept(start, signedBy(t, req, p.holdersOf(out, lost)...)); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(filepath.Join(out, "more"+lost[:4]), os.DirFS(fresh)); err != nil {
			t.Fatal(err)
		}
	}
	if got := p.keys.role(roleRoot); len(got.ids) != 3 || got.threshold != 2 || p.keys.RootVersion() != 3 {
		t.Errorf("root has %d keys, %d needed, version %d", len(got.ids), got.threshold, p.keys.RootVersion())
	}
	p.reopen()
	p.sign(start, 4, "four")
	if err := sleeper.Refresh(t.Context(), start, p.signer.Source); err != nil || sleeper.Head().Release != 4 {
		t.Errorf("the sleeper is at %d: %v", sleeper.Head().Release, err)
	}
}

// holdersOf lists the files of root keys that count and are not the lost one.
func (p *publisher) holdersOf(dir, lost string) (files []string) {
	p.t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		k, err := readKey(folder{dir: filepath.Dir(path)}, filepath.Base(path))
		if err == nil && k.id != lost && slices.Contains(p.keys.role(roleRoot).ids, k.id) {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return files
}

// TestStolenOnlineKeys is the story of a thief who has the online keys and signs huge versions.
func TestStolenOnlineKeys(t *testing.T) {
	t.Parallel()
	p := newPublisher(t, Lifetimes{})
	p.sign(start, 1, "one")
	own, victim := p.joined(start), p.joined(start)
	thief := p.twin()
	for _, role := range []string{roleRoot, roleTargets} { // which he could not copy
		delete(thief.keys.keys, thief.keys.first(role).id)
	}
	thief.signer.made.Timestamp, thief.signer.made.Snapshot, thief.signer.made.Delegated = 1<<40, 1<<40, 1<<40
	evil := thief.sign(start, 1000, "evil")
	for _, r := range []*Repository{own, victim} {
		if h, err := r.Verify(start, evil); err != nil || h.Release != 1000 {
			t.Fatalf("the thief's release: %d, %v", h.Release, err)
		}
	}
	if p.signer.Supersedes(own) {
		t.Error("the thief's release is superseded before a rotation")
	}
	req, err := p.signer.Rotate(start, Change{Role: roleSnapshot}, Change{Role: roleTimestamp}, Change{Role: roleRelease})
	if req != nil || err != nil {
		t.Fatal(req, err)
	}
	p.reopen()
	own.Refresh(context.Background(), start, p.signer.Source) // it takes the new root; release 1 after 1000 is refused
	if !p.signer.Supersedes(own) {
		t.Error("the thief's release is not superseded")
	}
	if err := p.signer.Adopt(own); err != nil {
		t.Fatal(err)
	}
	p.sign(start, p.signer.Next()+1, "mine again")
	for _, r := range []*Repository{own, victim, p.repository()} {
		if err := r.Refresh(t.Context(), start, p.signer.Source); err != nil || r.Head().Release < 1001 || reopened(t, r).Head() != r.Head() {
			t.Errorf("release %d, %v", r.Head().Release, err)
		}
		if _, err := r.Verify(start, thief.sign(start, thief.signer.Next(), "evil again")); err == nil {
			t.Error("the thief signs on")
		}
	}
}

// TestAcceptCrash cuts Accept of a request with root, targets and release off before each write; the same request goes on.
func TestAcceptCrash(t *testing.T) {
	t.Parallel()
	original, out := newThreshold(t, roleRoot, roleTargets, roleRelease)
	if err := original.signer.Accept(start, signedBy(t, original.prepare(1, "one"), out)); err != nil {
		t.Fatal(err)
	}
	atOne := original.joined(start)
	fresh := filepath.Join(t.TempDir(), "fresh")
	var changes []Change
	for _, role := range []string{roleRoot, roleTargets, roleRelease} {
		changes = append(changes, Change{Role: role, Plan: KeyPlan{Out: fresh}})
	}
	req, err := original.signer.Rotate(start, changes...)
	if err != nil {
		t.Fatal(err)
	}
	all := signedBy(t, req, out)
	for n := 1; ; n++ {
		p, r := original.twin(), copied(t, atOne)
		step := crashAt(n)
		p.signer.folder.before, p.keys.folder.before = step, step
		err := p.signer.Accept(start, all)
		if err != nil && (!errors.Is(err, errCrash) || n > maxWrites) {
			t.Fatalf("write %d: %v", n, err)
		}
		p.reopen()
		if err != nil {
			if err := p.signer.Accept(start, all); err != nil {
				t.Fatalf("write %d: again: %v", n, err)
			}
		}
		p.heartbeat(start)
		if err := r.Refresh(t.Context(), start, p.signer.Source); err != nil || r.Head().Release != 1 || r.set.rootVersion() != 2 {
			t.Errorf("write %d: release %d, root %d: %v", n, r.Head().Release, r.set.rootVersion(), err)
		}
		if err == nil {
			break
		}
	}
}

func FuzzDecodeRequest(f *testing.F) {
	p := newPublisher(f, Lifetimes{})
	root, err := p.keys.nextRoot(start, p.life)
	if err != nil {
		f.Fatal(err)
	}
	req, err := p.signer.prepare(start, root, nil, nil)
	if err != nil {
		f.Fatal(err)
	}
	raw, err := req.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"swarmnode-signing-request":1,"roots":["{}"],"sign":["null"]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := DecodeRequest(data)
		if err != nil {
			if !errors.Is(err, ErrRequest) {
				t.Fatalf("DecodeRequest = %v, want ErrRequest", err)
			}
			return
		}
		if _, err := r.Summary(); err != nil {
			t.Fatal(err)
		}
		again, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if same, err := DecodeRequest(again); err != nil || same.Merge(r) != nil {
			t.Fatalf("its own encoding: %v", err)
		}
	})
}

// TestOneKeyOfTwo: where two keys must sign, what one of them signed is nothing: neither a timestamp nor a root by which its
// holder wants to do without the other.
func TestOneKeyOfTwo(t *testing.T) {
	t.Parallel()
	p := &publisher{t: t, dir: t.TempDir()}
	two := KeyPlan{Keys: 2, Threshold: 2}
	if _, _, err := InitPlan(filepath.Join(p.dir, "keys"), start, p.life, map[string]KeyPlan{roleRoot: two, roleTimestamp: two}); err != nil {
		t.Fatal(err)
	}
	p.reopen()
	p.sign(start, 1, "one")
	r := p.joined(start)
	second := p.sign(start, 2, "two")
	half := withFiles(p.forged(versionOf(second), func(*metadata.TimestampType) {}), second)
	if h, err := r.Verify(start, half); !errors.Is(err, gossip.ErrBadSignature) {
		t.Errorf("a timestamp with one signature of two: release %d, %v, want ErrBadSignature", h.Release, err)
	}
	root, err := metadata.Root().FromBytes(p.keys.roots[0])
	if err != nil {
		t.Fatal(err)
	}
	root.Signed.Version++
	root.Signed.Roles[roleRoot].Threshold = 1
	raw, err := sign(root, p.keys.first(roleRoot))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Verify(start, with(second, "2.root.json", raw)); !errors.Is(err, gossip.ErrBadSignature) {
		t.Errorf("a root with one signature of two: %v, want ErrBadSignature", err)
	}
	if h, err := r.Verify(start, second); err != nil || h.Release != 2 {
		t.Errorf("with both signatures: release %d, %v", h.Release, err)
	}
}
