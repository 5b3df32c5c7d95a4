package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path"
	"strings"
	"time"

	"swarmnode/content"
)

// SizeUnknown stands for a size that nobody has told exactly.
const SizeUnknown = -1

// The limits of what an origin may say.
const (
	// MaxEntries is how many paths a listing may have: twice Debian's archive. An endless listing ends here.
	MaxEntries = 1 << 22
	// MaxDirectoryBytes is how long the listing of one directory, or one file of metadata as it is transferred, may be: a directory of
	// 200,000 files has 40 MiB of HTML.
	MaxDirectoryBytes = 64 << 20
	// DefaultConnections is how many connections to an origin there are at most: what browsers of old allowed themselves.
	DefaultConnections = 4
	// DefaultTimeout is how long an origin may keep silent.
	DefaultTimeout = time.Minute
)

var (
	// ErrUnchanged says that nothing has changed since the last listing, and that asking once was enough to know.
	ErrUnchanged = errors.New("the origin has not changed")
	// ErrGone says that a path of the listing is not there any more.
	ErrGone = fmt.Errorf("gone since it was listed: %w", fs.ErrNotExist)
)

// BusyError says that the origin wants to be left alone.
type BusyError struct {
	After time.Duration // how long it asks for; 0 if it does not say
	Cause string        // such as "503 Service Unavailable"
}

func (e *BusyError) Error() string {
	if e.After <= 0 {
		return "the origin is busy: " + e.Cause
	}
	return fmt.Sprintf("the origin is busy (%s) and asks to wait for %v", e.Cause, e.After)
}

// RefusedError says that trying again changes nothing: somebody has to do something first. Its text says what.
type RefusedError struct {
	Reason string
	Cause  error // may be nil
}

func (e *RefusedError) Error() string {
	if e.Cause == nil {
		return e.Reason
	}
	return fmt.Sprintf("%s: %v", e.Reason, e.Cause)
}

// Unwrap gives the cause.
func (e *RefusedError) Unwrap() error { return e.Cause }

// Entry is one path of an origin.
type Entry struct {
	Path   string         // relative to the origin, parts separated by '/'
	Mode   uint32         // kind and permission bits as in content.Entry; 0644 and 0755 where the protocol does not tell
	Size   int64          // bytes of a file, or SizeUnknown where the listing is not exact
	Mtime  int64          // nanoseconds since 1970; 0 where the listing does not tell
	Target string         // of a symlink
	Stamp  string         // what the listing said: the same the next time says that nothing has changed; "" vouches for nothing
	SHA256 content.Digest // what verified metadata of the origin says of the content; zero where nothing does
	Fetch  string         // path to fetch it from, if that is not Path: a by-hash name
	Last   bool           // an index: it is fetched after all others

	row     string // what the page of its directory says of it, where Stamp or Size say what was asked for besides: loops are told by it
	missing error  // it is listed, and there is nothing
}

// IsDir reports whether it is a directory.
func (e *Entry) IsDir() bool { return e.Mode&^0o7777 == content.ModeDir }

// IsFile reports whether it is a file.
func (e *Entry) IsFile() bool { return e.Mode&^0o7777 == content.ModeFile }

// Bad is a path that is not published, and why.
type Bad struct {
	Path string
	Err  error // its text names the path
}

// Before is what the last finished run knew.
type Before struct {
	Memo  map[string]string               // of its Listing
	Entry func(path string) (Entry, bool) // what it listed at a path, for several goroutines; nil before the first run
}

// Find gives what the last run listed at a path.
func (b Before) Find(path string) (Entry, bool) {
	if b.Entry == nil {
		return Entry{}, false
	}
	return b.Entry(path)
}

// Listing is what is to be said of a whole listing.
type Listing struct {
	Bad      []Bad
	Memo     map[string]string // what the next List wants to know again, such as validators; small
	Requests int               // requests, or commands, that it took
	Dated    time.Time         // when the metadata of a package repository were made, by what they say; the oldest of several; zero: nothing tells
}

// Origin is a read-only view of a tree. List is called from one goroutine at a time, Open also from several.
type Origin interface {
	// List calls each for every path, in the order of content.ComparePaths, each directory before what is in it. What cannot be
	// published is in Listing.Bad. An error says that the listing is not whole: then nothing is to be concluded from what is missing.
	// ErrUnchanged comes before any call of each.
	List(ctx context.Context, before Before, each func(Entry) error) (Listing, error)
	// Open reads a file from offset on if it is still the version that an earlier Body had, else from its beginning: Body.Offset
	// tells. The error is ErrGone if there is no such file any more.
	Open(ctx context.Context, e Entry, offset int64, version string) (*Body, error)
	// Close ends connections.
	Close() error
}

// Comparer is an Origin whose protocol goes on with a file only if it can compare what is here of it with what is there.
type Comparer interface {
	// OpenAfter is Open where offset is not 0. have gives the bytes before offset, until the body is closed.
	OpenAfter(ctx context.Context, e Entry, have io.ReaderAt, offset int64, version string) (*Body, error)
}

// Body is an open file of an origin.
type Body struct {
	io.ReadCloser
	Offset  int64  // of the first byte that comes
	Size    int64  // bytes of the whole file, or SizeUnknown
	Mtime   int64  // nanoseconds since 1970; 0: that of the listing stands
	Version string // says which version of the file this is, for an Open that goes on where this one was cut; "" if it cannot
	Whole   bool   // it would begin at 0 wherever Open was told to; a Comparer's OpenAfter may go on
	// Still says, after the last byte, whether the file is still the one that was opened. nil: only another listing can tell.
	Still func(ctx context.Context) (bool, error)
}

// Options are what is to be said of an origin beside its URL. The zero value is good.
type Options struct {
	// Include and Exclude are patterns of path.Match, with a '/' for the whole path, else for the name. A directory that is excluded
	// is not listed. With Include, only files and symlinks that match one of it are there, and the directories that they are in.
	Include, Exclude []string
	Connections      int           // at a time, at most; 0: DefaultConnections
	Timeout          time.Duration // without a byte; 0: DefaultTimeout
	UserAgent        string        // names the program and, for the people at the other end, whom to write to
	AllowPrivate     bool          // addresses that are dialed may be private ones
	Access                         // what opens doors
	Log              *slog.Logger  // nil: silence
}

// Access is what an origin may ask for.
type Access struct {
	Netrc      string // file with user names and passwords; "": ~/.netrc if there is one
	KnownHosts string // file with the keys of SSH servers; "": ~/.ssh/known_hosts
	SSHKey     string // file with a secret key; "": the agent, and the usual files in ~/.ssh
	Keyring    string // file with the OpenPGP keys that a package repository is signed with; "": none is asked for
	CACert     string // file with certificates that TLS servers are believed by, beside the system's; "": none
}

// withDefaults fills in what was left out, and checks the patterns.
func (o Options) withDefaults() (Options, error) {
	for _, p := range append(append([]string{}, o.Include...), o.Exclude...) {
		if _, err := path.Match(p, ""); err != nil {
			return o, fmt.Errorf("pattern %q: %w", p, err)
		}
	}
	if o.Connections <= 0 {
		o.Connections = DefaultConnections
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.UserAgent == "" {
		o.UserAgent = "swarmnode"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

// matches reports whether one of the patterns is for the path.
func matches(patterns []string, p string) bool {
	for _, pattern := range patterns {
		subject := path.Base(p)
		if strings.Contains(pattern, "/") {
			subject = p
		}
		if ok, err := path.Match(strings.TrimPrefix(pattern, "/"), subject); ok && err == nil {
			return true
		}
	}
	return false
}

// wanted reports whether a file or symlink is to be listed.
func (o *Options) wanted(p string) bool {
	return !matches(o.Exclude, p) && (len(o.Include) == 0 || matches(o.Include, p))
}
