package trust

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// stockCases are cases of the specification's section 5 for stock repositories. Each begins with a repository and a client
// that has everything at version 1.
var stockCases = map[string]func(*stock){
	"nothing new": func(s *stock) {
		s.wantRefresh(true, 1, 1, 1, 1)
		if want := []string{"2.root.json", timestampFile}; !slices.Equal(s.asked, want) {
			s.t.Errorf("asked for %v, want %v", s.asked, want)
		}
	},
	"all newer":                 func(s *stock) { s.bump(); s.publish(); s.wantRefresh(true, 1, 2, 2, 2) },
	"all newer with hashes":     func(s *stock) { s.hashed = true; s.bump(); s.publish(); s.wantRefresh(true, 1, 2, 2, 2) },
	"two roots":                 func(s *stock) { s.nextRoot(); s.nextRoot(); s.wantRefresh(true, 3, 1, 1, 1) },
	"no new root, server fails": func(s *stock) { s.files["2.root.json"] = []byte("oops"); s.wantRefresh(false, 1, 1, 1, 1) },
	"root with a hole": func(s *stock) {
		s.nextRoot()
		s.nextRoot()
		delete(s.files, "2.root.json")
		s.wantRefresh(true, 1, 1, 1, 1)
	},
	"root version skips": func(s *stock) {
		s.nextRoot()
		s.nextRoot()
		s.files["2.root.json"] = s.files["3.root.json"]
		s.wantRefresh(false, 1, 1, 1, 1)
	},
	"root again under 2": func(s *stock) { s.files["2.root.json"] = s.files["1.root.json"]; s.wantRefresh(false, 1, 1, 1, 1) },
	"root unknown fields": func(s *stock) {
		s.root.Signed.UnrecognizedFields = map[string]any{"x": "y"}
		s.nextRoot()
		s.wantRefresh(true, 2, 1, 1, 1)
	},
	"root expired on the way": func(s *stock) {
		e := s.root.Signed.Expires
		s.root.Signed.Expires = start.Add(-day)
		s.nextRoot()
		s.root.Signed.Expires = e
		s.nextRoot()
		s.wantRefresh(true, 3, 1, 1, 1)
	},
	"last root expired": func(s *stock) {
		s.root.Signed.Expires = start.Add(-day)
		s.nextRoot()
		s.bump()
		s.publish()
		s.wantRefresh(false, 2, 1, 1, 1)
	},
	"root keys rotate":       func(s *stock) { s.rotate(roleRoot); s.wantRefresh(true, 2, 1, 1, 1) },
	"root keys rotate twice": func(s *stock) { s.rotate(roleRoot); s.rotate(roleRoot); s.wantRefresh(true, 3, 1, 1, 1) },
	"root by old keys only": func(s *stock) {
		old := s.keys[roleRoot]
		s.rotate(roleRoot)
		s.files["2.root.json"] = stockSign(s.t, s.root, old)
		s.wantRefresh(false, 1, 1, 1, 1)
	},
	"root by new keys only": func(s *stock) {
		s.rotate(roleRoot)
		s.files["2.root.json"] = stockSign(s.t, s.root, s.keys[roleRoot])
		s.wantRefresh(false, 1, 1, 1, 1)
	},
	"root threshold 0": func(s *stock) {
		s.root.Signed.Roles[roleRoot].Threshold = 0
		s.nextRoot()
		s.wantRefresh(false, 1, 1, 1, 1)
	},
	"timestamp threshold -1": func(s *stock) {
		s.root.Signed.Roles[roleTimestamp].Threshold = -1
		s.nextRoot()
		s.wantRefresh(false, 2, 1, 1, 1)
	},
	"snapshot threshold unmet": func(s *stock) {
		s.root.Signed.Roles[roleSnapshot].Threshold = 2
		s.nextRoot()
		s.bump()
		s.publish()
		s.wantRefresh(false, 2, 2, 0, 1)
	},
	"all keys rotate": func(s *stock) {
		s.rotate(roleRoot, roleTimestamp, roleSnapshot, roleTargets)
		s.bump()
		publishOnline(s)
		s.wantRefresh(true, 2, 2, 2, 2)
	},
	"timestamp keys rotate": func(s *stock) { s.rotate(roleTimestamp); s.bump(); publishOnline(s); s.wantRefresh(true, 2, 2, 2, 2) },
	"targets keys rotate":   func(s *stock) { s.rotate(roleTargets); s.bump(); publishOnline(s); s.wantRefresh(true, 2, 2, 2, 2) },
	"one key under two IDs": twoIDs,
	"timestamp expired": func(s *stock) {
		s.timestamp.Signed.Expires = start.Add(-day)
		s.bump()
		s.publish()
		s.wantRefresh(false, 1, 1, 1, 1)
	},
	"timestamp here expired": func(s *stock) { s.now = start.Add(101 * day); s.wantRefresh(false, 1, 1, 1, 1) },
	"newer after expiry":     renewed,
	"snapshot expired": func(s *stock) {
		s.snapshot.Signed.Expires = start.Add(-day)
		s.bump()
		s.publish()
		s.wantRefresh(false, 1, 2, 1, 1)
	},
	"targets expired": func(s *stock) {
		s.targets[roleTargets].Signed.Expires = start.Add(-day)
		s.bump()
		s.publish()
		s.wantRefresh(false, 1, 2, 2, 1)
	},
	"timestamp goes back": func(s *stock) {
		s.bump()
		s.publish()
		s.wantRefresh(true, 1, 2, 2, 2)
		s.timestamp.Signed.Version = 1
		s.publish()
		s.wantRefresh(false, 1, 2, 2, 2)
	},
	"timestamp changed": func(s *stock) { s.snapshot.Signed.Version = 9; s.publish(); s.wantRefresh(true, 1, 1, 1, 1) },
	"snapshot goes back": func(s *stock) {
		s.bump()
		s.publish()
		s.wantRefresh(true, 1, 2, 2, 2)
		s.bump()
		s.snapshot.Signed.Version = 1
		s.publish()
		s.wantRefresh(false, 1, 2, 2, 2)
	},
	"targets go back":         func(s *stock) { targetsGoBack(s) },
	"targets go back, hashed": func(s *stock) { s.hashed = true; targetsGoBack(s) },
	"snapshot loses a role": func(s *stock) {
		s.bump()
		s.publish()
		s.wantRefresh(true, 1, 2, 2, 2)
		s.bump()
		delete(s.snapshot.Signed.Meta, "targets.json")
		s.publishSnapshot()
		s.wantRefresh(false, 1, 3, 2, 2)
	},
	"timestamp fast forward": func(s *stock) {
		s.bump()
		s.timestamp.Signed.Version = 1 << 50
		s.publish()
		s.wantRefresh(true, 1, 1<<50, 2, 2)
		s.rotate(roleTimestamp)
		s.timestamp.Signed.Version = 1
		publishOnline(s)
		s.wantRefresh(true, 2, 1, 2, 2)
	},
	"snapshot fast forward": func(s *stock) {
		s.bump()
		s.snapshot.Signed.Version = 1 << 50
		s.publish()
		s.wantRefresh(true, 1, 2, 1<<50, 2)
		s.rotate(roleSnapshot, roleTimestamp)
		s.snapshot.Signed.Version = 1
		publishOnline(s)
		s.wantRefresh(true, 2, 2, 1, 2)
	},
	"targets fast forward": func(s *stock) {
		s.bump()
		s.targets[roleTargets].Signed.Version = 1 << 50
		s.publish()
		s.wantRefresh(true, 1, 2, 2, 1<<50)
		s.rotate(roleSnapshot)
		s.targets[roleTargets].Signed.Version = 1
		publishOnline(s)
		s.wantRefresh(true, 2, 2, 2, 1)
	},
	"snapshot of another length": func(s *stock) {
		s.hashed = true
		s.bump()
		s.publish()
		s.files["2.snapshot.json"] = append(s.files["2.snapshot.json"], ' ')
		s.wantRefresh(false, 1, 2, 1, 1)
	},
	"targets of another hash": func(s *stock) {
		s.hashed = true
		s.bump()
		s.publish()
		s.files["2.targets.json"] = s.files["1.targets.json"]
		s.wantRefresh(false, 1, 2, 2, 1)
	},
	"snapshot of other version": func(s *stock) {
		s.bump()
		s.publish()
		s.files["2.snapshot.json"] = s.files["1.snapshot.json"]
		s.wantRefresh(false, 1, 2, 1, 1)
	},
	"targets of other version": func(s *stock) {
		s.bump()
		s.publish()
		s.files["2.targets.json"] = s.files["1.targets.json"]
		s.wantRefresh(false, 1, 2, 2, 1)
	},
	"targets missing": func(s *stock) {
		s.bump()
		s.publish()
		delete(s.files, "2.targets.json")
		s.wantRefresh(false, 1, 2, 2, 1)
	},
	"not consistent": func(s *stock) {
		s.root.Signed.ConsistentSnapshot = false
		s.nextRoot()
		s.bump()
		publishOnline(s)
		s.wantRefresh(true, 2, 2, 2, 2)
	},
	"targets is a timestamp": func(s *stock) {
		s.bump()
		s.publish()
		s.files["2.targets.json"] = s.files[timestampFile]
		s.wantRefresh(false, 1, 2, 2, 1)
	},
}

// publishOnline publishes all but the root, which is out already.
func publishOnline(s *stock) {
	name := versioned(s.root.Signed.Version, roleRoot)
	root := s.files[name]
	s.publish()
	s.files[name] = root
}

// twoIDs gives one key a second ID: it still counts once towards a threshold.
func twoIDs(s *stock) {
	k := s.keys[roleSnapshot][0]
	twin := *k.public
	twin.UnrecognizedFields = map[string]any{"x": 1}
	s.root.Signed.Keys["feed"] = &twin
	s.root.Signed.Roles[roleSnapshot].KeyIDs = append(s.root.Signed.Roles[roleSnapshot].KeyIDs, "feed")
	s.root.Signed.Roles[roleSnapshot].Threshold = 2
	s.nextRoot()
	s.bump()
	publishOnline(s)
	m := s.snapshot
	m.Signatures = append(m.Signatures, metadata.Signature{KeyID: "feed", Signature: m.Signatures[0].Signature})
	raw, err := m.ToBytes(false)
	s.check(err)
	s.files["2.snapshot.json"] = raw
	s.wantRefresh(false, 2, 2, 0, 1)
}

// renewed: what expired here is still the floor, and no obstacle to what is new.
func renewed(s *stock) {
	s.now = start.Add(101 * day)
	end := start.Add(200 * day)
	s.root.Signed.Expires, s.timestamp.Signed.Expires, s.snapshot.Signed.Expires, s.targets[roleTargets].Signed.Expires = end, end, end, end
	s.nextRoot()
	s.bump()
	publishOnline(s)
	s.wantRefresh(true, 2, 2, 2, 2)
}

func targetsGoBack(s *stock) {
	s.bump()
	s.publish()
	s.wantRefresh(true, 1, 2, 2, 2)
	s.bump()
	s.targets[roleTargets].Signed.Version = 1
	s.publish()
	s.wantRefresh(false, 1, 3, 2, 2)
}

func TestClientRefresh(t *testing.T) {
	t.Parallel()
	for name, run := range stockCases {
		t.Run(name, func(t *testing.T) {
			s := newStock(t, "")
			s.wantRefresh(true, 1, 1, 1, 1)
			run(s)
		})
	}
}

func TestClientKeyTypes(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		t.Run(kind, func(t *testing.T) {
			s := newStock(t, kind)
			s.wantRefresh(true, 1, 1, 1, 1)
			s.keys[roleTimestamp] = []stockKey{newStockKey(t, kind)}
			s.bump()
			s.publish()
			s.wantRefresh(false, 1, 1, 1, 1)
		})
	}
}

// TestClientPinnedRoot: a first root that is not whole or not signed by itself is not taken.
func TestClientPinnedRoot(t *testing.T) {
	t.Parallel()
	s := newStock(t, "")
	for name, raw := range map[string][]byte{"empty": nil, "null": []byte("null"), "cut": s.files["1.root.json"][:200],
		"timestamp": s.files[timestampFile], "unsigned": stockSign(t, s.root, s.keys[roleTimestamp])} {
		if err := InitClient(filepath.Join(t.TempDir(), "m"), raw); err == nil {
			t.Errorf("%s: taken as the first root", name)
		}
	}
	if _, err := OpenClient(t.TempDir(), start, s.source); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a root: %v, want fs.ErrNotExist", err)
	}
}

func role(name string, terminating bool, paths ...string) metadata.DelegatedRole {
	return metadata.DelegatedRole{Name: name, Terminating: terminating, Paths: paths}
}

// TestClientDelegations walks graphs of delegations: who is asked in which order, and where a target is found.
func TestClientDelegations(t *testing.T) {
	t.Parallel()
	type edge struct {
		parent string
		role   metadata.DelegatedRole
	}
	tree := []edge{{roleTargets, role("A", false, "*.doc", "*.md")}, {roleTargets, role("B", false, "releases/*/*")},
		{"B", role("C", false, "releases/x/*")}, {"B", role("D", false, "releases/y/*.zip")}}
	any := func(parent, name string) edge { return edge{parent, role(name, false, "*")} }
	for _, tc := range []struct {
		name    string
		edges   []edge
		target  string
		in      string // the role that has it; "" for none
		visited []string
	}{
		{"one", []edge{any("targets", "A")}, "x", "", []string{"A"}},
		{"two", []edge{any("targets", "A"), any("targets", "B")}, "x", "", []string{"A", "B"}},
		{"depth first", []edge{any("targets", "A"), any("targets", "B"), any("A", "C"), any("A", "D")}, "x", "", []string{"A", "C", "D", "B"}},
		{"deeper", []edge{any("targets", "A"), any("targets", "B"), any("A", "C"), any("C", "D")}, "x", "", []string{"A", "C", "D", "B"}},
		{"terminating", []edge{any("targets", "A"), any("targets", "B"), {"A", role("C", true, "*")}, any("A", "D")}, "x", "", []string{"A", "C"}},
		{"terminating with children", []edge{any("targets", "A"), any("targets", "B"), {"A", role("C", true, "*")}, any("C", "D")}, "x", "", []string{"A", "C", "D"}},
		{"path does not match", []edge{{"targets", role("A", false, "*.py")}, any("targets", "B"), any("A", "C")}, "x", "", []string{"B"}},
		{"cycle", []edge{any("targets", "A"), any("targets", "B"), any("B", "C"), any("C", "D")}, "x", "", []string{"A", "B", "C", "D"}},
		{"two ways", []edge{any("targets", "A"), any("targets", "B"), any("A", "C")}, "x", "C", []string{"A", "C"}},
		{"at the top", tree, "targetfile", "targets", nil},
		{"wildcard", tree, "README.md", "A", []string{"A"}},
		{"below x", tree, "releases/x/v1", "C", []string{"B", "C"}},
		{"below y", tree, "releases/y/v1.zip", "D", []string{"B", "D"}},
		{"not delegated all the way", tree, "releases/z/v1.zip", "", []string{"B"}},
		{"hash prefix", []edge{{"targets", metadata.DelegatedRole{Name: "A", PathHashPrefixes: []string{"00"}}},
			{"targets", metadata.DelegatedRole{Name: "B", PathHashPrefixes: []string{"2d711642"}}}}, "x", "B", []string{"B"}}, // SHA-256 of "x"
		{"question mark", []edge{any("targets", "?")}, "x", "?", []string{"?"}},
		{"slash", []edge{any("targets", "/a")}, "x", "/a", []string{"/a"}},
		{"dots", []edge{any("targets", "../a")}, "x", "../a", []string{"../a"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newStock(t, "")
			for _, e := range tc.edges {
				s.delegate(e.parent, e.role)
			}
			if tc.in != "" {
				s.addTarget(tc.in, tc.target, "content")
			}
			s.publish()
			c, err := s.refresh()
			s.check(err)
			s.asked = nil
			got, err := c.Target(t.Context(), tc.target)
			if found := err == nil && got.Check([]byte("content")) == nil; found != (tc.in != "") {
				t.Errorf("found is %v: %v", found, err)
			}
			var want []string
			for _, r := range tc.visited {
				want = append(want, versioned(1, r))
			}
			if !slices.Equal(s.asked, want) {
				t.Errorf("asked for %v, want %v", s.asked, want)
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(s.dir), "a.json")); err == nil {
				t.Error("a role name left the directory")
			}
		})
	}
}

// TestClientStops: no more than 32 roles are asked, and no role may take the file of another one.
func TestClientStops(t *testing.T) {
	t.Parallel()
	s := newStock(t, "")
	for i := range maxVisited + 5 {
		s.delegate(roleTargets, role(string(rune('A'+i)), false, "*"))
	}
	s.publish()
	c, err := s.refresh()
	s.check(err)
	s.asked = nil
	if _, err := c.Target(t.Context(), "x"); !errors.Is(err, fs.ErrNotExist) || len(s.asked) != maxVisited-1 {
		t.Errorf("%d delegated roles asked, %v", len(s.asked), err)
	}
	s = newStock(t, "")
	s.delegate(roleTargets, role("root2", false, "*"))
	s.targets[roleTargets].Signed.Delegations.Roles[0].Name = roleRoot
	s.publish()
	s.wantRefresh(false, 1, 1, 1, 0)
}

func TestTarget(t *testing.T) {
	t.Parallel()
	s := newStock(t, "")
	s.addTarget(roleTargets, "dir/file", "content")
	s.publish()
	c, err := s.refresh()
	s.check(err)
	got, err := c.Target(t.Context(), "dir/file")
	s.check(err)
	if names := got.Names(); len(names) != 2 || names[0] != "dir/"+digestOf([]byte("content"))+".file" {
		t.Errorf("names %v", names)
	}
	for data, ok := range map[string]bool{"content": true, "Content": false, "content ": false, "": false} {
		if err := got.Check([]byte(data)); (err == nil) != ok {
			t.Errorf("Check(%q) = %v", data, err)
		}
	}
}
