package origin

import (
	"context"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"swarmnode/content"
)

// byHash is the directory of names by hash beside an index (RepositoryFormat of the Debian wiki, "indices acquisition via hashsums").
const byHash = "by-hash"

// readIndexes adds what a suite consists of to the pile: the indexes that are there, and the files that they name.
func (a *apt) readIndexes(ctx context.Context, before Before, rel *release, p *pile) error {
	if err := a.want.check(rel); err != nil {
		return err
	}
	var files []filed
	hashes := map[string]string{} // path -> SHA512
	empty := map[string]bool{}    // base names of indexes without a byte in them
	for _, x := range rel.indexes {
		if !a.want.wants(x.name) {
			continue
		}
		f := filed{path: joined(rel.dir, x.name), size: x.size, sum: x.sum, last: true}
		if err := content.CheckPath(f.path); err != nil {
			p.refuse(f.path, err)
			continue
		}
		if rel.tops(x.name) || !p.wanted(f.path) {
			continue
		}
		if rel.byHash {
			f.fetch = path.Join(path.Dir(f.path), byHash, "SHA256", x.sum.String())
		}
		hashes[f.path] = x.sha512
		empty[f.path] = x.size == 0
		files = append(files, f)
	}
	found, err := a.present(ctx, before, files)
	if err != nil {
		return err
	}
	for _, f := range found {
		if err := addIndex(p, f, hashes[f.path]); err != nil {
			return err
		}
	}
	return a.readPackages(ctx, rel, files, found, empty, p)
}

// tops reports whether a Release file names itself, as some do.
func (rel *release) tops(name string) bool {
	return name == "Release" || name == "InRelease" || name == "Release.gpg"
}

// addIndex adds an index under its name, and under its names by hash where the repository has those. All have one content, which whoever
// fetches by SHA256 fetches once.
func addIndex(p *pile, f filed, sha512 string) error {
	if f.fetch == "" {
		return p.add(f)
	}
	names := []string{f.path, f.fetch}
	if sha512 != "" {
		names = append(names, path.Join(path.Dir(f.path), byHash, "SHA512", sha512))
	}
	for _, name := range names {
		same := f
		same.path = name
		if err := p.add(same); err != nil {
			return err
		}
	}
	return nil
}

// joined is path.Join that leaves a name as it is, so that one with ".." in it is seen.
func joined(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// readPackages reads each Packages and Sources index in the form that is unpacked soonest of those that are there: all of them are
// fetched anyway.
func (a *apt) readPackages(ctx context.Context, rel *release, named, found []filed, empty map[string]bool, p *pile) error {
	best := map[string]filed{}
	for _, f := range found {
		base := strings.TrimSuffix(f.path, compression(f.path))
		if was, ok := best[base]; unpackable(f.path) && (!ok || sooner(f, was)) {
			best[base] = f
		}
	}
	done := map[string]bool{}
	for _, f := range named {
		base := strings.TrimSuffix(f.path, compression(f.path))
		if name := path.Base(base); name != "Packages" && name != "Sources" || done[base] {
			continue
		}
		done[base] = true
		if empty[base] {
			continue // some are named and not there
		}
		f, ok := best[base]
		if !ok {
			return fmt.Errorf("%w: it names %q, and no form of it is there that can be read here", errSwitched, base)
		}
		data, err := a.fetchChecked(ctx, f)
		if err != nil {
			return err
		}
		if err := a.readPackage(f, data, p); err != nil {
			return fmt.Errorf("%s: %w", f.path, err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// readPackage reads one index.
func (a *apt) readPackage(f filed, data []byte, p *pile) error {
	r, err := a.unpack(f.path, data)
	if err != nil {
		return err
	}
	defer r.Close()
	if strings.HasPrefix(path.Base(f.path), "Sources") {
		return readSources(r, &a.want, p)
	}
	return readPackages(r, &a.want, p)
}

// readPackages adds the files that a Packages index names.
func readPackages(r io.Reader, want *selection, p *pile) error {
	return readStanzas(r, []string{"package", "filename", "size", "sha256", "section"}, func(f map[string]string) error {
		name := strings.TrimPrefix(f["filename"], "./")
		if !want.wantsSection(f["section"]) {
			return nil
		}
		size, err := strconv.ParseInt(f["size"], 10, 64)
		sum, bad := content.ParseDigest(f["sha256"])
		switch {
		case name == "" && f["package"] == "": // of another kind
		case name == "":
			p.refuse(f["package"], fmt.Errorf("package %.80q has no file name", f["package"]))
		case err != nil || size < 0:
			p.refuse(name, fmt.Errorf("%.200q has the size %.40q, which is none", name, f["size"]))
		case bad != nil:
			p.refuse(name, fmt.Errorf("%.200q has no SHA256 in its index", name))
		default:
			return p.add(filed{path: name, size: size, sum: sum})
		}
		return nil
	})
}

// readSources adds the files that a Sources index names.
func readSources(r io.Reader, want *selection, p *pile) error {
	return readStanzas(r, []string{"package", "directory", "checksums-sha256", "section"}, func(f map[string]string) error {
		if !want.wantsSection(f["section"]) {
			return nil
		}
		dir := strings.TrimSuffix(strings.TrimPrefix(f["directory"], "./"), "/")
		if dir == "." {
			dir = ""
		}
		if f["checksums-sha256"] == "" {
			p.refuse(dir, fmt.Errorf("source package %.80q has no SHA256 of its files in its index", f["package"]))
			return nil
		}
		return hashLines(f["checksums-sha256"], func(hash string, size int64, name string) error {
			sum, err := content.ParseDigest(hash)
			if err != nil || strings.Contains(name, "/") {
				p.refuse(joined(dir, name), fmt.Errorf("source package %.80q: %.200q has no SHA256, or is in another directory", f["package"], name))
				return nil
			}
			if dir == "" {
				name = strings.Clone(name) // else it keeps the text that it is in
			}
			return p.add(filed{path: joined(dir, name), size: size, sum: sum})
		})
	})
}
