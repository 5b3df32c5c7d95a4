package origin

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path"
	"strings"

	"swarmnode/content"
)

// An rpm repository is read from repodata/repomd.xml down: rpm+https://HOST/DIRECTORY/, where DIRECTORY holds repodata.
//
// What is there is what it names: its files, the packages of the primary index, and, where .treeinfo names images, those. Not
// there: differences between packages (drpms), files that nothing names, packages that are on another server. With a keyring nothing is there
// that no signature vouches for: no .treeinfo, and no repomd.xml.key with a key that the keyring has not.

const (
	repodata = "repodata"
	repomd   = "repomd.xml"
)

// maxTreeinfoBytes is how long .treeinfo may be: Fedora's has 3 KB.
const maxTreeinfoBytes = 1 << 20

// rpm is such an origin.
type rpm struct {
	*repository
	back  bool // the metadata may be older than what was read before
	most  maxAge
	print string
}

// openRPM makes the origin of a URL rpm+SCHEME://…, with the parameters check-date=no and max-age.
func openRPM(ctx context.Context, u *url.URL, o Options) (Origin, error) {
	r, err := parseRPM(u)
	if err != nil {
		return nil, err
	}
	below, err := openRepository(ctx, u, o)
	if err != nil {
		return nil, err
	}
	return r.over(below), nil
}

// over makes it read a repository.
func (r *rpm) over(below *repository) *rpm {
	r.repository, r.print = below, below.fingerprint(repomd)
	return r
}

// parseRPM reads the parameters.
func parseRPM(u *url.URL) (*rpm, error) {
	r := &rpm{}
	query, err := url.ParseQuery(u.RawQuery)
	for name, values := range query {
		if err != nil {
			break
		}
		switch value := strings.Join(values, ","); {
		case name == "check-date" && value == "no":
			r.back = true
		case name == "max-age":
			r.most, err = parseMaxAge(value)
		default:
			err = errors.New("after the ? of an rpm repository check-date=no and max-age=14d may stand and nothing else; --exclude '*.src.rpm' leaves out files")
		}
	}
	if err != nil {
		return nil, &RefusedError{Reason: fmt.Sprintf("%s: %v", u.Redacted(), err)}
	}
	return r, nil
}

// List reads the metadata. It asks one question if nothing has changed, and a second one where there is a .treeinfo.
func (r *rpm) List(ctx context.Context, before Before, each func(Entry) error) (Listing, error) {
	return r.settled(ctx, func(last bool) (Listing, error) {
		other := before.Memo[memoPrint] != r.print
		t := &top{dir: repodata, names: []string{repomd}, most: maxReleaseBytes}
		tree := &top{names: []string{".treeinfo", "treeinfo"}, most: maxTreeinfoBytes}
		tops := []*top{t}
		if before.Memo[memoFile+tree.dir] != "" { // one that comes later is found when repomd.xml changes
			tops = append(tops, tree)
		}
		memo, changed := map[string]string{memoPrint: r.print}, other
		for _, t := range tops {
			if err := t.ask(ctx, r.repository, before.Memo, other); err != nil {
				return Listing{}, err
			}
			changed = changed || t.changed
			memo[memoFile+t.dir] = t.was.text()
		}
		if !changed {
			if err := r.most.check(joined(repodata, repomd), t.was.Date, r.now()); err != nil {
				return Listing{}, err
			}
			return Listing{Memo: memo, Dated: t.was.Date}, ErrUnchanged
		}
		p := &pile{o: &r.o}
		if err := t.get(ctx, r.repository); err != nil {
			return Listing{}, err
		}
		if err := r.signed(ctx, t, last, p); err != nil {
			return Listing{}, err
		}
		if err := r.readData(ctx, t, p); err != nil {
			return Listing{}, err
		}
		memo[memoFile+t.dir] = t.is.text()
		delete(memo, memoFile+tree.dir)
		if found, err := r.readTreeinfo(ctx, tree, p); err != nil {
			return Listing{}, err
		} else if found {
			memo[memoFile+tree.dir] = tree.is.text()
		}
		err := p.emit(each)
		return Listing{Bad: p.bad, Memo: memo, Dated: t.is.Date}, err
	})
}

// signed adds repomd.xml, and its signature, which is checked if there is a keyring, and the key that some put beside it.
func (r *rpm) signed(ctx context.Context, t *top, last bool, p *pile) error {
	name := joined(repodata, repomd)
	if err := r.publish(p, name, t.data, t.mtime); err != nil {
		return err
	}
	for _, end := range []string{".asc", ".key"} {
		data, mtime, err := r.fetch(ctx, name+end, maxSignatureBytes)
		switch {
		case absent(err) && end == ".asc" && r.keys != nil:
			return &RefusedError{Reason: fmt.Sprintf("%s is not signed, there is no %s%s: ask for it, or leave out the keyring", name, repomd, end)}
		case absent(err):
			continue
		case err == nil && end == ".key" && r.keys != nil:
			if err := r.keys.hold(data); err != nil {
				p.refuse(name+end, err)
				continue
			}
		case err == nil && end == ".asc" && r.keys != nil:
			signature, bad := dearmor(data)
			if err = bad; err == nil {
				err = r.keys.check(name, t.data, signature, r.now())
			}
			if err != nil && !last {
				err = fmt.Errorf("%w: %w", errSwitched, err)
			}
		}
		if err != nil {
			return err
		}
		if err := r.publish(p, name+end, data, mtime); err != nil {
			return err
		}
	}
	return nil
}

// readData adds the files that repomd.xml names, and the packages that the primary index names.
func (r *rpm) readData(ctx context.Context, t *top, p *pile) error {
	var primary *filed
	made, err := readRepomd(bytes.NewReader(t.data), func(kind string, f filed) error {
		f.last = true
		if kind == "primary" {
			primary = &f
		}
		return p.add(f)
	}, p.refuse)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", repomd, err)
	case made.Before(t.was.Date) && !made.IsZero() && !r.back:
		return &RefusedError{Reason: fmt.Sprintf("%s is of %v, the one that was read before is of %v: a server that lags behind, or somebody who gives out old packages. Wait, take another server, or add ?check-date=no to the address if it is meant to go back",
			joined(repodata, repomd), made, t.was.Date)}
	case primary == nil:
		return fmt.Errorf("%s names no primary index that can be believed: it is not one of a repository of packages, or has hashes that can be forged", repomd)
	}
	t.is.Date = made
	if now := r.now().UTC(); now.Before(made) { // what comes next has its own time, and is not older
		t.is.Date = now
	}
	if err := r.most.check(joined(repodata, repomd), t.is.Date, r.now()); err != nil {
		return err
	}
	packed, err := r.fetchChecked(ctx, *primary)
	if err != nil {
		return err
	}
	in, err := r.unpack(primary.path, packed)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := readPrimary(in, p.add, p.refuse); err != nil {
		return fmt.Errorf("%s: %w", primary.path, err)
	}
	return nil
}

// readTreeinfo adds the images of an installation tree, if this is one.
func (r *rpm) readTreeinfo(ctx context.Context, t *top, p *pile) (found bool, err error) {
	if err := t.get(ctx, r.repository); absent(err) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	if r.keys != nil {
		p.refuse(t.is.File, fmt.Errorf("nothing signs %s and what it names: with a keyring it is left out", t.is.File))
		return false, nil
	}
	if err := r.publish(p, t.is.File, t.data, t.mtime); err != nil {
		return false, err
	}
	if err := readTreeinfo(bytes.NewReader(t.data), p.add); err != nil {
		return false, fmt.Errorf("%s: %w", t.is.File, err)
	}
	return true, nil
}

// readTreeinfo reads the section of checksums of a .treeinfo file (https://release-engineering.github.io/productmd/treeinfo-1.0.html):
// lines of "path = sha256:hash". Sizes are not told. What it says of repodata is told better there.
func readTreeinfo(r io.Reader, add func(filed) error) error {
	lines := bufio.NewScanner(r)
	inside := false
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, "[") {
			inside = line == "[checksums]"
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !inside || !ok || strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			continue
		}
		name = strings.TrimSpace(name)
		kind, hash, _ := strings.Cut(strings.TrimSpace(value), ":")
		f, ok := hashed(kind, hash)
		if !ok || path.Dir(name) == repodata {
			continue
		}
		f.path, f.size = name, SizeUnknown
		if err := add(f); err != nil {
			return err
		}
	}
	return lines.Err()
}

// hashed begins a file with a hash that cannot be forged.
func hashed(kind, hash string) (filed, bool) {
	hash = strings.ToLower(strings.TrimSpace(hash))
	switch kind {
	case "sha256":
		sum, err := content.ParseDigest(hash)
		return filed{sum: sum}, err == nil
	case "sha512":
		const digits = 128
		return filed{sha512: hash}, len(hash) == digits && strings.Trim(hash, "0123456789abcdef") == ""
	}
	return filed{}, false
}
