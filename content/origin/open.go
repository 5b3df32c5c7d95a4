package origin

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// An opener makes the origin of a URL. Options are complete. It need not ask the server anything: an origin that cannot be reached
// now may be there when it is listed.
type opener func(ctx context.Context, u *url.URL, o Options) (Origin, error)

// openers has what is behind each scheme.
func openers() map[string]opener {
	return map[string]opener{
		// A directory here: local.go.
		"file": openLocal,

		// An FTP server: ftp.go.
		"ftp":   openFTP,
		"ftps":  openFTP,
		"ftpes": openFTP,

		// A web server with index pages: http.go.
		"http":  openHTTP,
		"https": openHTTP,

		// Something behind SSH: sftp.go.
		"sftp": openSFTP,

		// An rsync server, or rsync behind SSH: rsync.go.
		"rsync":     openRsync,
		"rsync+ssh": openRsync,

		// A Debian repository: apt.go.
		"apt+file":  openAPT,
		"apt+http":  openAPT,
		"apt+https": openAPT,

		// An RPM repository: rpm.go.
		"rpm+file":  openRPM,
		"rpm+http":  openRPM,
		"rpm+https": openRPM,
	}
}

// Open gives the origin of a URL, or of the path of a directory here, which begins with a '/'. A password in the URL is used, and
// is in no error and no log.
func Open(ctx context.Context, rawURL string, o Options) (Origin, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(rawURL, "/") {
		return openLocal(ctx, &url.URL{Scheme: "file", Path: rawURL}, o)
	}
	u, err := Parse(rawURL)
	if err != nil {
		return nil, err
	}
	open := openers()[u.Scheme]
	if open == nil {
		return nil, &RefusedError{Reason: fmt.Sprintf("%s: there is no scheme %q; there are %s, and /DIRECTORY", WithoutPassword(rawURL), u.Scheme, strings.Join(Schemes(), ", "))}
	}
	if !strings.HasSuffix(u.Scheme, "file") && u.Hostname() == "" {
		return nil, &RefusedError{Reason: fmt.Sprintf("%s names no host: %s://HOST/PATH/ is what is wanted", WithoutPassword(rawURL), u.Scheme)}
	}
	return open(ctx, u, o)
}

// Schemes are those of the URLs that Open takes, sorted.
func Schemes() []string { return slices.Sorted(maps.Keys(openers())) }

// Parse is url.Parse with errors that people can do something with, and that have no password in them.
func Parse(rawURL string) (*url.URL, error) {
	u, err := url.Parse(rawURL)
	if err == nil && u.Scheme != "" && u.Opaque == "" {
		return u, nil
	}
	shown := WithoutPassword(rawURL)
	host, dir, remote := strings.Cut(shown, ":")
	port, _, _ := strings.Cut(dir, "/")
	_, noPort := strconv.ParseUint(port, 10, 16)
	switch {
	case remote && host != "" && !strings.ContainsAny(host, "/@") && noPort == nil:
		return nil, &RefusedError{Reason: fmt.Sprintf("%q is not a URL: say https://%[1]s, or http://", shown)}
	case remote && host != "" && !strings.Contains(host, "/") && !strings.HasPrefix(dir, "//"):
		module, daemon := strings.CutPrefix(dir, ":")
		if daemon {
			return nil, &RefusedError{Reason: fmt.Sprintf("%q is not a URL: say rsync://%s/%s", shown, host, module)}
		}
		return nil, &RefusedError{Reason: fmt.Sprintf("%q is not a URL: say sftp://%s/%s, or with rsync rsync+ssh://%[2]s/%[3]s", shown, host, strings.TrimPrefix(dir, "/"))}
	case err != nil:
		return nil, &RefusedError{Reason: fmt.Sprintf("%q is not a URL: a space is %%20 in it, a %% is %%25, a @ or : of a password %%40 or %%3A", shown)}
	}
	return nil, &RefusedError{Reason: fmt.Sprintf("%q is neither a URL such as https://HOST/PATH/ nor the whole path of a directory, /DIRECTORY", shown)}
}

// WithoutPassword gives a URL, or something that should have been one, for people and logs: what may be a password is not in it.
func WithoutPassword(rawURL string) string {
	if u, err := url.Parse(rawURL); err == nil && u.Scheme != "" && u.Host != "" && !strings.Contains(u.RawQuery+u.Fragment, "@") {
		if _, has := u.User.Password(); has {
			u.User = url.User(u.User.Username())
			return u.String()
		}
		return rawURL
	}
	// Not a URL, or one whose password has an unescaped character in it: up to the last @ nothing is safe to show but scheme and user.
	at := strings.LastIndexByte(rawURL, '@')
	if at < 0 {
		return rawURL
	}
	scheme, rest, ok := strings.Cut(rawURL[:at], "://")
	if !ok {
		scheme, rest = "", rawURL[:at]
	} else {
		scheme += "://"
	}
	user, _, _ := strings.Cut(rest, ":")
	return scheme + user + rawURL[at:]
}
