package origin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"swarmnode/content"
)

// openRepository opens what the files of the repository at apt+SCHEME://… or rpm+SCHEME://… are read through.
func openRepository(ctx context.Context, u *url.URL, o Options) (*repository, error) {
	_, scheme, _ := strings.Cut(u.Scheme, "+")
	open := openers()[scheme]
	if open == nil {
		return nil, &RefusedError{Reason: fmt.Sprintf("%s: a package repository is read over http, https or from a file:///DIRECTORY", u.Redacted())}
	}
	below := *u
	below.Scheme, below.RawQuery, below.ForceQuery, below.Fragment = scheme, "", false, ""
	files, err := open(ctx, &below, o)
	if err != nil {
		return nil, err
	}
	r, err := newRepository(sourceOf(files), o)
	if err != nil {
		_ = files.Close()
		return nil, err
	}
	r.shown = u.Redacted()
	return r, nil
}

// fingerprint is of all that the answer depends on, beside what the repository holds.
func (r *repository) fingerprint(asked ...any) string {
	all := append(asked, r.o.Include, r.o.Exclude)
	if r.keys != nil {
		all = append(all, content.Sum(r.keys.data).String())
	}
	data, err := json.Marshal(all)
	if err != nil {
		panic("origin: lists of strings: " + err.Error())
	}
	return content.Sum(data).String()
}

// sourceOf gives a source from an origin: from one that cannot ask before it opens, by opening and not reading.
func sourceOf(files Origin) source {
	if s, ok := files.(source); ok {
		return s
	}
	return plainSource{files}
}

// plainSource is a source for which opening a file costs little.
type plainSource struct{ Origin }

func (s plainSource) openIf(ctx context.Context, path, validator string) (*Body, string, error) {
	body, err := s.Open(ctx, Entry{Path: path, Mode: content.ModeFile | 0o644, Size: SizeUnknown}, 0, "")
	if err != nil {
		return nil, "", err
	}
	if validator != "" && body.Version == validator {
		_ = body.Close()
		return nil, "", ErrUnchanged
	}
	return body, body.Version, nil
}

func (s plainSource) size(ctx context.Context, path string) (int64, error) {
	body, err := s.Open(ctx, Entry{Path: path, Mode: content.ModeFile | 0o644, Size: SizeUnknown}, 0, "")
	if err != nil {
		return 0, err
	}
	return body.Size, body.Close()
}
