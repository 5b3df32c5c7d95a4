package origin

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"swarmnode/content"
)

// An apt repository (https://wiki.debian.org/DebianRepository/Format) is read from its Release files down: apt+https://HOST/debian?suite=trixie.
//
// What is there is what they name: the indexes of the components and architectures that are wanted, under their names and their
// names by hash, and the files of the packages. Not there: what no index names (a README, doc/, project/), differences between
// indexes, images of the installer, indexes that are named and not on the server. Without a filter of sections every file that an
// index names is there. With one, the signed indexes cannot be changed and so name more than the pool has: that is what the operator
// asked for, as with --exclude.

// maxAhead is how far the date of metadata may be ahead: clocks differ. apt itself allows 10 s (Acquire::Max-FutureTime).
const maxAhead = 10 * time.Minute

// maxSuites is how many suites one origin may have: each costs a request a poll.
const maxSuites = 64

// apt is such an origin.
type apt struct {
	*repository
	dirs  []string // of the Release files
	want  selection
	stale bool // a Release file may be past its time, or older than the one before
	other bool // a Release file may be of another suite than was asked for
	print string
	most  maxAge
}

// openAPT makes the origin of a URL apt+SCHEME://… with the parameters suite, component, arch, section (each may be there several times, and
// several names be in one with commas), check-valid-until, check-suite and max-age.
func openAPT(ctx context.Context, u *url.URL, o Options) (Origin, error) {
	a, err := parseAPT(u)
	if err != nil {
		return nil, err
	}
	r, err := openRepository(ctx, u, o)
	if err != nil {
		return nil, err
	}
	return a.over(r), nil
}

// over makes it read a repository.
func (a *apt) over(r *repository) *apt {
	a.repository = r
	a.print = r.fingerprint(a.dirs, a.want.components, a.want.architectures, a.want.sections, a.stale)
	return a
}

// parseAPT reads the parameters.
func parseAPT(u *url.URL) (*apt, error) {
	a := &apt{}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, &RefusedError{Reason: fmt.Sprintf("%s: the part after the ? cannot be read", u.Redacted()), Cause: err}
	}
	for name, values := range query {
		names := strings.FieldsFunc(strings.Join(values, ","), func(r rune) bool { return r == ',' || r == ' ' })
		switch name {
		case "suite":
			a.dirs, err = suiteDirs(names)
		case "component":
			a.want.components = names
		case "arch":
			a.want.architectures = names
		case "section":
			a.want.sections = names
		case "check-valid-until":
			a.stale = len(names) == 1 && names[0] == "no"
		case "check-suite":
			a.other = len(names) == 1 && names[0] == "no"
		case "max-age":
			a.most, err = parseMaxAge(strings.Join(names, ","))
		default:
			err = fmt.Errorf("there is no parameter %q; there are suite, component, arch, section, max-age, check-valid-until=no and check-suite=no", name)
		}
		if err != nil {
			return nil, &RefusedError{Reason: fmt.Sprintf("%s: %v", u.Redacted(), err)}
		}
	}
	if len(a.dirs) == 0 {
		return nil, &RefusedError{Reason: fmt.Sprintf("%s names no suite: add ?suite=NAME, where NAME is what follows the address in sources.list, such as trixie, or / for a repository without dists", u.Redacted())}
	}
	return a, nil
}

// suiteDirs gives the directories of suites: as in sources.list, a name with a '/' at its end is a directory itself.
func suiteDirs(names []string) (dirs []string, err error) {
	if len(names) > maxSuites {
		return nil, fmt.Errorf("%d suites are named, at most %d may be", len(names), maxSuites)
	}
	for _, name := range names {
		dir := "dists/" + name
		if flat, ok := strings.CutSuffix(name, "/"); ok {
			dir = strings.TrimPrefix(strings.TrimPrefix(flat, "."), "/")
		}
		if dir != "" {
			if err := content.CheckPath(dir); err != nil {
				return nil, err
			}
		}
		dirs = append(dirs, dir)
	}
	return dirs, nil
}

// known is what is kept of a Release file for the next listing.
type known struct {
	File        string         // InRelease or Release
	Validator   string         // of the server
	SHA256      content.Digest // of the file
	Date, Until time.Time
}

const (
	memoPrint = "print" // the key in Listing.Memo of what was asked for: another question has another answer
	memoFile  = "file:" // with the directory of a Release file, or of repomd.xml: what is known of it
)

// List reads the metadata. It asks one question a suite if nothing has changed.
func (a *apt) List(ctx context.Context, before Before, each func(Entry) error) (Listing, error) {
	return a.settled(ctx, func(last bool) (Listing, error) {
		tops := make([]*top, len(a.dirs))
		memo := map[string]string{memoPrint: a.print}
		other := before.Memo[memoPrint] != a.print
		changed, dated := other, time.Time{}
		for i, dir := range a.dirs {
			t := &top{dir: dir, names: []string{"InRelease", "Release"}, most: maxReleaseBytes}
			tops[i] = t
			if err := t.ask(ctx, a.repository, before.Memo, other); err != nil {
				return Listing{}, err
			}
			if err := a.fresh(dir, t.was); err != nil && !t.changed {
				return Listing{}, err
			}
			dated = older(dated, t.was.Date)
			changed = changed || t.changed
			memo[memoFile+dir] = t.was.text()
		}
		if !changed {
			return Listing{Memo: memo, Dated: dated}, ErrUnchanged
		}
		p := &pile{o: &a.o}
		dated = time.Time{}
		for _, t := range tops {
			rel, err := a.readTop(ctx, t, last, p)
			if err == nil {
				err = a.readIndexes(ctx, before, rel, p)
			}
			if err != nil {
				return Listing{}, err
			}
			memo[memoFile+t.dir] = t.is.text()
			dated = older(dated, t.is.Date)
		}
		err := p.emit(each)
		return Listing{Bad: p.bad, Memo: memo, Dated: dated}, err
	})
}

func (k known) text() string {
	data, err := json.Marshal(k)
	if err != nil {
		panic("origin: a struct of strings and times: " + err.Error())
	}
	return string(data)
}

// top is the file that all others of a suite, or of an rpm repository, hang on.
type top struct {
	dir     string
	names   []string // the first of these that is there is the file
	most    int64    // bytes of it
	was, is known
	changed bool
	data    []byte // of is
	mtime   int64
}

// ask asks whether the file is still the one that was known; anew says that it is wanted even so.
func (t *top) ask(ctx context.Context, r *repository, memo map[string]string, anew bool) error {
	text, ok := memo[memoFile+t.dir]
	if !ok || json.Unmarshal([]byte(text), &t.was) != nil || t.was.File == "" {
		t.was, t.changed = known{}, true
		return nil
	}
	if anew {
		t.was.Validator = ""
	}
	data, mtime, validator, err := r.fetchIf(ctx, joined(t.dir, t.was.File), t.was.Validator, t.most)
	switch {
	case errors.Is(err, ErrUnchanged):
		return nil
	case absent(err):
		t.changed = true
		return nil
	case err != nil:
		return err
	}
	t.data, t.mtime = data, mtime
	t.is = known{File: t.was.File, Validator: validator, SHA256: content.Sum(data)}
	if t.changed = t.is.SHA256 != t.was.SHA256; !t.changed {
		t.was.Validator = validator
	}
	return nil
}

// get reads the file, if ask has not.
func (t *top) get(ctx context.Context, r *repository) (err error) {
	if t.data != nil {
		return nil
	}
	if h := r.hold(t.was.SHA256); h != nil && !t.changed {
		t.data, t.mtime, t.is = h.data, h.mtime, t.was
		return nil
	}
	for _, name := range t.names {
		t.is = known{File: name}
		t.data, t.mtime, t.is.Validator, err = r.fetchIf(ctx, joined(t.dir, name), "", t.most)
		t.is.SHA256 = content.Sum(t.data)
		if !absent(err) {
			return err
		}
	}
	return &RefusedError{Reason: fmt.Sprintf("there is no %s: the address is that of the directory that holds dists, or repodata, and the suite must be one that is there", joined(t.dir, strings.Join(t.names, " and no "))), Cause: err}
}

// readTop reads and checks the Release file of a suite, in whichever forms it is there.
func (a *apt) readTop(ctx context.Context, t *top, last bool, p *pile) (*release, error) {
	if err := t.get(ctx, a.repository); err != nil {
		return nil, err
	}
	if err := a.publish(p, joined(t.dir, t.is.File), t.data, t.mtime); err != nil {
		return nil, err
	}
	var text []byte
	var err error
	if t.is.File == "InRelease" {
		if text, err = a.inRelease(t); err == nil {
			err = a.besides(ctx, t, text, last, p)
		}
	} else if text = t.data; err == nil {
		err = a.detached(ctx, t.dir, text, last, p)
	}
	if err != nil {
		return nil, err
	}
	rel, err := parseRelease(t.dir, text)
	if err != nil {
		return nil, err
	}
	t.is.Date, t.is.Until = rel.date, rel.until
	if err := a.fresh(t.dir, t.is); err != nil {
		return nil, err
	}
	if a.keys != nil && !a.other && !rel.isOf(t.dir) {
		return nil, &RefusedError{Reason: fmt.Sprintf("the Release file of %s is signed, and is that of suite %q, codename %q: somebody gives out another suite under this name, or its owner names it so. If he does, add check-suite=no to the address",
			t.dir, rel.suite, rel.codename)}
	}
	if ahead := rel.date.Sub(a.now()); ahead > maxAhead && !a.stale {
		return nil, &RefusedError{Reason: fmt.Sprintf("the Release file of %s is of %v, which is %v from now, and apt takes none from the future: set the clock of this machine if that is what is wrong, or add check-valid-until=no to the address",
			cmp.Or(t.dir, "/"), rel.date, ahead.Round(time.Minute))}
	}
	if rel.date.Before(t.was.Date) && !a.stale {
		return nil, &RefusedError{Reason: fmt.Sprintf("the Release file of %s is of %v, the one that was read before is of %v: a server that lags behind, or somebody who gives out old packages. Wait, take another server, or add check-valid-until=no to the address if it is meant to go back",
			cmp.Or(t.dir, "/"), rel.date, t.was.Date)}
	}
	return rel, nil
}

// fresh refuses metadata past its time.
func (a *apt) fresh(dir string, k known) error {
	if k.Until.IsZero() || a.stale || a.now().Before(k.Until) {
		return a.most.check("the Release file of "+cmp.Or(dir, "/"), k.Date, a.now())
	}
	return &RefusedError{Reason: fmt.Sprintf("the Release file of %s was valid until %v only: the server does not follow its own origin any more. Take another one, or add check-valid-until=no to the address if an old archive is what is wanted", cmp.Or(dir, "/"), k.Until)}
}

// publish puts metadata that was read on the pile as it is in memory.
func (a *repository) publish(p *pile, path string, data []byte, mtime int64) error {
	return p.add(filed{path: path, size: int64(len(data)), sum: a.keep(data, mtime, true), last: true})
}

// inRelease checks an InRelease file and gives its text.
func (a *apt) inRelease(t *top) ([]byte, error) {
	name := joined(t.dir, t.is.File)
	text, signed, signature, err := splitSigned(t.data)
	switch {
	case err != nil && a.keys == nil && !bytes.Contains(t.data, []byte(beginSigned)):
		return t.data, nil // some do not sign it
	case err != nil:
		return nil, fmt.Errorf("%w: %s: %w", errSwitched, name, err)
	case a.keys == nil:
		return text, nil
	}
	return text, a.keys.check(name, signed, signature, a.now())
}

// besides adds Release and Release.gpg, which are there beside InRelease for old clients, if they say the same.
func (a *apt) besides(ctx context.Context, t *top, text []byte, last bool, p *pile) error {
	name := joined(t.dir, "Release")
	data, mtime, err := a.fetch(ctx, name, maxReleaseBytes)
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if !sameText(data, text) {
		if last {
			p.refuse(name, fmt.Errorf("%q says something else than InRelease beside it", name))
			return nil
		}
		return fmt.Errorf("%w: %q and InRelease differ", errSwitched, name)
	}
	signature, at, err := a.signature(ctx, t.dir, data, last)
	if refused := (*RefusedError)(nil); last && errors.As(err, &refused) {
		p.refuse(name, err) // InRelease is good and enough
		return nil
	}
	if err != nil && !absent(err) {
		return err
	}
	if err := a.publish(p, name, data, mtime); err != nil || signature == nil {
		return err
	}
	return a.publish(p, name+".gpg", signature, at)
}

// detached checks a Release file by Release.gpg.
func (a *apt) detached(ctx context.Context, dir string, data []byte, last bool, p *pile) error {
	name := joined(dir, "Release.gpg")
	signature, mtime, err := a.signature(ctx, dir, data, last)
	switch {
	case absent(err) && a.keys == nil:
		return nil
	case absent(err):
		return &RefusedError{Reason: fmt.Sprintf("%s is not signed, there is neither InRelease nor Release.gpg: ask for it, or leave out the keyring", joined(dir, "Release"))}
	case err != nil:
		return err
	}
	return a.publish(p, name, signature, mtime)
}

// signature gives Release.gpg, which is checked if there is a keyring.
func (a *apt) signature(ctx context.Context, dir string, data []byte, last bool) ([]byte, int64, error) {
	name := joined(dir, "Release.gpg")
	raw, mtime, err := a.fetch(ctx, name, maxSignatureBytes)
	if err != nil || a.keys == nil {
		return raw, mtime, err
	}
	signature, err := dearmor(raw)
	if err == nil {
		err = a.keys.check(name, data, signature, a.now())
	}
	switch {
	case err == nil:
		return raw, mtime, nil
	case last:
		return nil, 0, err
	}
	return nil, 0, fmt.Errorf("%w: %w", errSwitched, err)
}

// sameText compares as signatures of texts do: without spaces at the ends of lines.
func sameText(a, b []byte) bool {
	trimmed := func(data []byte) []byte {
		var out []byte
		for line := range bytes.Lines(data) {
			out = append(append(out, bytes.TrimRight(line, " \t\r\n")...), '\n')
		}
		return bytes.TrimRight(out, "\n")
	}
	return bytes.Equal(trimmed(a), trimmed(b))
}
