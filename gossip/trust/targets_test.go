package trust

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"swarmnode/content"
)

func TestFitTargets(t *testing.T) {
	t.Parallel()
	file := func(path string) SignedFile {
		return SignedFile{Path: path, Size: 1, SHA256: content.Sum([]byte(path))}
	}
	deep := TreeTarget + strings.Repeat("d/", maxTargetDepth-1) + "f"
	var many, long []SignedFile
	for i := range 200 {
		many = append(many, file(fmt.Sprintf("tree/%d.iso", i)))
		long = append(long, file(fmt.Sprintf("tree/%s%d.iso", strings.Repeat(`"`, 200), i)))
	}
	for _, test := range []struct {
		what string
		give []SignedFile
		want int
	}{
		{"nothing", nil, 0},
		{"checksums and a file", []SignedFile{file(SumsTarget), file("tree/a.iso")}, 2},
		{"as deep as allowed", []SignedFile{file(deep)}, 1},
		{"deeper", []SignedFile{file(TreeTarget + "d/" + deep[len(TreeTarget):]), file("tree/a")}, 1},
		{"a second manifest", []SignedFile{file("release/other")}, 0},
		{"not in the tree", []SignedFile{file("a.iso"), file("/tree/a"), file("tree/../a"), file("tree//a"), file("tree/")}, 0},
		{"more than there may be", many, MaxTargets - 1},
		{"more bytes than there may be", long, MaxTargetBytes / (targetOverhead + 5 + 400 + 7)},
	} {
		if got := FitTargets(test.give); len(got) != test.want {
			t.Errorf("%s: %d fit, want %d", test.what, len(got), test.want)
		}
	}
}

// TestFurtherTargets follows a release with further targets as a stock TUF client does, and through a renewal.
func TestFurtherTargets(t *testing.T) {
	t.Parallel()
	p := newPublisher(t, Lifetimes{})
	data := []byte("an image")
	r := release(1, "one")
	r.Targets = []SignedFile{{Path: "tree/iso/net.iso", Size: int64(len(data)), SHA256: content.Sum(data)}}
	if _, err := p.signer.Sign(start, r); err != nil {
		t.Fatal(err)
	}
	if head := p.joined(start).Head(); head.Release != 1 || head.Files != 10 {
		t.Errorf("a member verified %+v", head)
	}
	now := start
	check := func(what string) {
		t.Helper()
		dir := filepath.Join(t.TempDir(), "metadata")
		root, err := p.signer.File("1.root.json")
		if err == nil {
			err = InitClient(dir, root)
		}
		if err != nil {
			t.Fatal(err)
		}
		c, err := OpenClient(dir, now, p.signer.Source)
		if err == nil {
			err = c.Refresh(t.Context())
		}
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		target, err := c.Target(t.Context(), "tree/iso/net.iso")
		if err != nil || target.Check(data) != nil || target.Check([]byte("an imagE")) == nil {
			t.Errorf("%s: target %+v, %v", what, target, err)
		}
		want := []string{fmt.Sprintf("tree/iso/%s.net.iso", content.Sum(data))}
		if diff := cmp.Diff(want, target.Names()); diff != "" {
			t.Errorf("%s: names (-want +got):\n%s", what, diff)
		}
		if _, err := c.Target(t.Context(), "tree/other"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: a file that is not listed: %v", what, err)
		}
	}
	check("as signed")
	now = start.Add(DefaultLife - 100*day)
	p.heartbeat(now)
	check("renewed")

	bad := release(2, "two")
	bad.Targets = []SignedFile{{Path: "release/two", Size: 1, SHA256: content.Sum(data)}}
	if _, err := p.signer.Sign(now, bad); err == nil {
		t.Error("signed a target with the name of a manifest")
	}
}

// TestOldDelegation signs under targets of a time when only manifests were delegated, whose keys are elsewhere.
func TestOldDelegation(t *testing.T) {
	t.Parallel()
	p, out := newThreshold(t, roleTargets)
	r := release(1, "one")
	r.Targets = []SignedFile{{Path: SumsTarget, Size: 3, SHA256: content.Sum([]byte("abc"))}}
	req, err := p.signer.Prepare(start, r)
	if err != nil {
		t.Fatal(err)
	}
	req.doc(roleTargets).targets.Signed.Delegations.Roles[0].Paths = []string{targetPrefix + "*"}
	req.doc(roleTargets).targets.Signatures = nil
	if err := p.signer.ask(req); err != nil {
		t.Fatal(err)
	}
	signed := signedBy(t, req, filepath.Join(out, "targets-1"), filepath.Join(out, "targets-2"))
	if err := p.signer.Accept(start, signed); err != nil {
		t.Fatal(err)
	}
	if _, err := p.signer.Sign(start, r); err != nil {
		t.Fatal(err)
	}
	listed := func() bool {
		raw, err := p.signer.File(versioned(p.signer.set.snapshot.Signed.Meta[roleRelease+".json"].Version, roleRelease))
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Contains(raw, []byte(SumsTarget))
	}
	if listed() {
		t.Error("the release role lists what it may not sign")
	}
	r.Number, r.Manifest = 2, content.Sum([]byte("two"))
	if req, err = p.signer.Prepare(start, r); err != nil || req == nil || req.doc(roleTargets) == nil {
		t.Fatalf("nobody is asked for the new delegation: %+v, %v", req, err)
	}
	if err := p.signer.Accept(start, signedBy(t, req, filepath.Join(out, "targets-1"), filepath.Join(out, "targets-3"))); err != nil {
		t.Fatal(err)
	}
	if _, err := p.signer.Sign(start, r); err != nil {
		t.Fatal(err)
	}
	if !listed() {
		t.Error("the release role does not list what it may sign now")
	}
}

// TestSummaryOfTargets: who signs a release elsewhere is shown all that it vouches for.
func TestSummaryOfTargets(t *testing.T) {
	t.Parallel()
	p, out := newThreshold(t, roleTargets, roleRelease)
	r := release(1, "one")
	r.Targets = []SignedFile{{Path: "tree/a.iso", Size: 7, SHA256: content.Sum([]byte("abc"))}}
	req, err := p.signer.Prepare(start, r)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := req.Summary()
	want := `  "tree/a.iso", 7 bytes, SHA-256 ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad`
	if err != nil || !strings.Contains(strings.Join(lines, "\n"), want) {
		t.Errorf("summary %q, %v", lines, err)
	}
	req = signedBy(t, req, out)
	if err := p.signer.Accept(start, req); err != nil {
		t.Fatal(err)
	}
	if head := p.joined(start).Head(); head.Release != 1 {
		t.Errorf("head %+v", head)
	}
}
