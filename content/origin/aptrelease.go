package origin

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"swarmnode/content"
)

const (
	// maxReleaseBytes is how long a Release file may be: that of unstable has 200 KB.
	maxReleaseBytes = 16 << 20
	// maxReleaseFiles is how many indexes one may name: those of all architectures of Debian are 4,000.
	maxReleaseFiles = 100_000
)

// release is what a Release file says, as far as it matters here.
type release struct {
	dir           string // such as dists/bookworm; "" for the top
	suite         string // what it says that it is
	codename      string
	date, until   time.Time
	components    []string
	architectures []string
	byHash        bool
	indexes       []index
}

// index is a file that a Release file names.
type index struct {
	name   string // relative to the directory of the Release file
	size   int64
	sum    content.Digest
	sha512 string // in hexadecimal, "" if it is not told
}

// parseRelease reads a Release file, or the text of an InRelease file.
func parseRelease(dir string, text []byte) (*release, error) {
	rel := &release{dir: dir}
	seen := false
	err := readStanzas(bytes.NewReader(text), []string{"suite", "codename", "date", "valid-until", "components", "architectures", "acquire-by-hash", "sha256", "sha512"}, func(f map[string]string) (err error) {
		if seen {
			return errors.New("a Release file has one paragraph, this one has more")
		}
		seen = true
		if rel.date, err = releaseTime(f["date"]); err != nil {
			return err
		}
		if rel.until, err = releaseTime(f["valid-until"]); err != nil {
			return err
		}
		rel.suite, rel.codename = f["suite"], f["codename"]
		rel.components, rel.architectures = strings.Fields(f["components"]), strings.Fields(f["architectures"])
		rel.byHash = strings.EqualFold(f["acquire-by-hash"], "yes")
		if f["sha256"] == "" {
			return errors.New("it names no file with its SHA256: older hashes can be forged")
		}
		return rel.files(f["sha256"], f["sha512"])
	})
	if err == nil && !seen {
		err = errors.New("it is empty")
	}
	if err != nil {
		return nil, fmt.Errorf("the Release file of %s: %w", path.Join("/", dir), err)
	}
	return rel, nil
}

// isOf reports whether it is that of the suite in a directory, by the rule that apt warns by: its suite or its codename is the name, or what is before the last '/'
// in it, as in "buster/updates". One that says neither, or lies outside of dists, may be anything.
func (rel *release) isOf(dir string) bool {
	name, ok := strings.CutPrefix(dir, "dists/")
	if !ok || rel.suite == "" && rel.codename == "" {
		return true
	}
	is := func(name string) bool { return name == rel.suite || name == rel.codename }
	return is(name) || strings.Contains(name, "/") && is(path.Dir(name))
}

// files takes the indexes, by their SHA256, and by their SHA512 where that is told too.
func (rel *release) files(sha256, sha512 string) error {
	at := map[string]int{}
	err := hashLines(sha256, func(hash string, size int64, name string) error {
		sum, err := content.ParseDigest(hash)
		if err != nil {
			return err
		}
		if i, twice := at[name]; twice {
			if was := rel.indexes[i]; was.sum != sum || was.size != size {
				return fmt.Errorf("%q is named twice, with different hashes or sizes", name)
			}
			return nil
		}
		at[name] = len(rel.indexes)
		rel.indexes = append(rel.indexes, index{name: name, size: size, sum: sum})
		if len(rel.indexes) > maxReleaseFiles {
			return fmt.Errorf("it names more than %d files", maxReleaseFiles)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return hashLines(sha512, func(hash string, _ int64, name string) error {
		raw, err := hex.DecodeString(hash)
		if err != nil || len(raw) != 64 {
			return fmt.Errorf("%q is not a SHA512 in hexadecimal", hash)
		}
		if i, ok := at[name]; ok {
			rel.indexes[i].sha512 = strings.ToLower(hash)
		}
		return nil
	})
}

// hashLines reads lines of hash, size and name.
func hashLines(value string, each func(hash string, size int64, name string) error) error {
	for line := range strings.Lines(value) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if len(f) != 3 {
			return fmt.Errorf("%.100q is not a hash, a size and a name", line)
		}
		size, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil || size < 0 {
			return fmt.Errorf("%.100q: %q is not a size", line, f[1])
		}
		if err := each(f[0], size, f[2]); err != nil {
			return err
		}
	}
	return nil
}

// releaseTime reads a time as apt does: RFC 1123, in UTC. Nothing is the zero time.
func releaseTime(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{"Mon, _2 Jan 2006 15:04:05 MST", "Mon, _2 Jan 2006 15:04:05 -0700"} {
		// A zone can carry a time over the ends of what JSON, in which it is kept, can hold: the years 0 to 9999 (RFC 3339).
		if t, err := time.Parse(layout, s); err == nil && t.UTC().Year() >= 0 && t.UTC().Year() <= 9999 {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is not a time such as \"Mon, 23 Nov 2026 09:00:00 UTC\"", s)
}

// selection is what of a suite is wanted; nothing chosen is everything.
type selection struct {
	components    []string
	architectures []string // with "source" for sources; "all" is always wanted
	sections      []string
}

// check refuses what the suite does not have: a misspelt name would be an empty mirror.
func (s *selection) check(rel *release) error {
	for _, c := range s.components {
		if len(rel.components) > 0 && !slices.ContainsFunc(rel.components, func(has string) bool { return component(has) == c }) {
			return &RefusedError{Reason: fmt.Sprintf("component %q: %s has %s", c, rel.dir, strings.Join(rel.components, ", "))}
		}
	}
	for _, a := range s.architectures {
		if a != "all" && a != "source" && len(rel.architectures) > 0 && !slices.Contains(rel.architectures, a) {
			return &RefusedError{Reason: fmt.Sprintf("architecture %q: %s has %s, and source", a, rel.dir, strings.Join(rel.architectures, ", "))}
		}
	}
	return nil
}

// component is the name of a component without what old security archives put before it, as in "updates/main".
func component(name string) string { return strings.TrimPrefix(name, "updates/") }

// wants reports whether an index is wanted, by its name. What lies outside of all components is, as far as its architecture is.
// Differences between indexes are not: they are named in a file of their own, and apt does without. Nor are images of the
// installer: only their checksums are named here.
func (s *selection) wants(name string) bool {
	if strings.Contains(name, ".diff/") || strings.Contains("/"+name, "/installer-") {
		return false
	}
	if inside := strings.Contains(name, "/"); inside && len(s.components) > 0 &&
		!slices.ContainsFunc(s.components, func(c string) bool { return strings.HasPrefix(component(name), c+"/") }) {
		return false
	}
	if len(s.architectures) == 0 {
		return true
	}
	for part := range strings.SplitSeq(name, "/") {
		if a := architecture(part); a != "" && a != "all" && !slices.Contains(s.architectures, a) {
			return false
		}
	}
	return true
}

// architecture gives the architecture that a part of an index's name is for, "" for none.
func architecture(part string) string {
	if part == "source" {
		return part
	}
	for _, prefix := range []string{"binary-", "Contents-udeb-", "Contents-", "Components-"} {
		if a, ok := strings.CutPrefix(part, prefix); ok {
			a, _, _ = strings.Cut(a, ".")
			return a
		}
	}
	return ""
}

// wantsSection reports whether packages of a section are wanted: "games" is also "contrib/games".
func (s *selection) wantsSection(section string) bool {
	return len(s.sections) == 0 || slices.Contains(s.sections, section) || slices.Contains(s.sections, path.Base(section))
}
