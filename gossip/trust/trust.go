// Package trust is what makes a release believable: the keys and roles of a publisher ([Keys]), signing releases and
// heartbeats with them ([Signer]), and the verified, durable state of everybody else ([Repository]). The format, the
// roles and the order of checks are those of The Update Framework (https://theupdateframework.github.io/specification/),
// on top of go-tuf's metadata packages, which only this package imports. Fetching and spreading the files is left to
// others: they come in as a gossip.Bundle or through a [Source].
package trust

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"swarmnode/content"
	"swarmnode/gossip"
)

// The roles of a collection. The first four are TUF's own; release is delegated by targets and signs the manifests.
const (
	roleRoot      = "root"
	roleTargets   = "targets"
	roleSnapshot  = "snapshot"
	roleTimestamp = "timestamp"
	roleRelease   = "release"
)

// roles in the order in which their keys are made.
func roles() []string {
	return []string{roleRoot, roleTargets, roleSnapshot, roleTimestamp, roleRelease}
}

const (
	// timestampFile is the one TUF file whose name has no version.
	timestampFile = "timestamp.json"
	// BundleFile is the name under which a repository serves all current files at once, see [Repository.File].
	BundleFile = "bundle"
	// targetPrefix begins the target path of a manifest root: release/<name of the collection>.
	targetPrefix = "release/"
	// TreeTarget begins the target path of a file of the tree, so that no file of a tree is taken for a manifest root.
	TreeTarget = "tree/"
	// SumsTarget is the target path of the tree's checksums, see content.Sums.
	SumsTarget = "SHA256SUMS"
)

// maxTargetDepth is how many parts the path of a file can have that stock clients are to verify: in the patterns of a delegation a *
// stands for no slash, so each depth needs its own. The deepest image of a large archive of today has 9 parts.
const maxTargetDepth = 12

// releasePatterns are the target paths that targets delegates to the release role.
func releasePatterns() []string {
	list := []string{targetPrefix + "*", SumsTarget}
	for n := 1; n <= maxTargetDepth; n++ {
		list = append(list, TreeTarget+strings.Repeat("*/", n-1)+"*")
	}
	return list
}

// Limits of what is looked at, checked before anything is parsed (DESIGN section 5: a megabyte of signatures kept
// go-tuf busy for 11 s). The limit of all files of a bundle together is gossip.MaxBundle.
const (
	// MaxRoot is the largest root file, in bytes.
	MaxRoot = 64 << 10
	// MaxTimestamp is the largest timestamp file, in bytes.
	MaxTimestamp = 16 << 10
	// MaxSignatures is the most signatures of one file.
	MaxSignatures = 16
	// MaxNewRoots is the most new roots that one walk accepts.
	MaxNewRoots = 64
	// MaxTargets is the most targets that the release role may list.
	MaxTargets = 100
	// MaxTargetBytes is what the entries of a release's further targets may take, so that all files of a release fit in a
	// bundle together with a dozen new roots.
	MaxTargetBytes = 24 << 10
	// MaxReleaseStep is how far the release number may grow at once, so that no thief of the online keys can use all
	// numbers up: it would take 2^32 files, each of which other nodes see.
	MaxReleaseStep = 1 << 32
	// MaxFirstRelease is the largest first release, and the largest step under a newer root: numbers taken from a clock in
	// seconds fit, and 2^24 such steps are left.
	MaxFirstRelease = 1 << 40
	// MaxClockStep is how far one verified signing time may move the clock floor beyond this node's own clock. It bounds
	// what a publisher with a wrong clock can do to the clocks of others, see [Repository].
	MaxClockStep = 24 * time.Hour
	// MaxClaimLife is the longest a claim may be valid from now, so that a stolen one ends.
	MaxClaimLife = 7 * 24 * time.Hour
)

// Names of the fields that this program adds to a timestamp. TUF asks readers to keep and ignore fields they do not
// know, so other clients are not disturbed.
const (
	fieldSigned = "swarmnode-signed" // when it was signed, RFC 3339 in UTC
	fieldRoot   = "swarmnode-root"   // version of the root under which it was signed
)

const day = 24 * time.Hour

// DefaultTimestampLife suits a one-shot publish: the publisher may never come back within the year.
const DefaultTimestampLife = 365 * day

// FollowedTimestampLife suits a tree that is followed and signed again every hour; a longer one widens the time for
// which a node that is cut off can be kept on an old release.
const FollowedTimestampLife = 14 * day

// DefaultLife is how long root, targets, snapshot and release metadata are valid. They are signed again when a third
// is left, or when they would expire before the timestamp.
const DefaultLife = 2 * 365 * day

// Lifetimes says how long signed files are valid. Zero fields take the defaults.
type Lifetimes struct {
	Timestamp time.Duration // default DefaultTimestampLife
	Others    time.Duration // root, targets, snapshot and release; default DefaultLife, at least Timestamp
}

func (l Lifetimes) withDefaults() Lifetimes {
	if l.Timestamp <= 0 {
		l.Timestamp = DefaultTimestampLife
	}
	if l.Others <= 0 {
		l.Others = DefaultLife
	}
	l.Others = max(l.Others, l.Timestamp)
	return l
}

// IncompleteError names the file that a bundle needs and that is neither in it nor here. It is gossip.ErrIncomplete.
type IncompleteError struct {
	Name string // e.g. "3.snapshot.json"
	Size int64  // exact size in bytes, from signed data
}

func (e *IncompleteError) Error() string {
	return fmt.Sprintf("%s is not here: %v", e.Name, gossip.ErrIncomplete)
}

// Is makes the error one of gossip.ErrIncomplete.
func (e *IncompleteError) Is(target error) bool { return target == gossip.ErrIncomplete }

// errName is the cause of a refused collection name.
var errName = errors.New("a name has 1 to 255 bytes of UTF-8, is not . or .., and has no slash and no control character")

// CheckName tells whether a collection can have this name: it becomes one part of a TUF target path and of URLs.
func CheckName(name string) error {
	bad := name == "" || name == "." || name == ".." || len(name) > content.MaxName || !utf8.ValidString(name)
	for _, c := range name {
		bad = bad || c == '/' || c < ' ' || c == 0x7f
	}
	if bad {
		return fmt.Errorf("collection name %.80q: %w", name, errName)
	}
	return nil
}

// versioned gives the file name of a version of a role's metadata (TUF's consistent snapshots).
func versioned(version int64, role string) string {
	return strconv.FormatInt(version, 10) + "." + role + ".json"
}

// rootVersion reads the version out of the name of a root file.
func rootVersion(name string) (int64, bool) {
	digits, ok := strings.CutSuffix(name, "."+roleRoot+".json")
	if !ok {
		return 0, false
	}
	v, err := strconv.ParseInt(digits, 10, 64)
	return v, err == nil && v > 0 && versioned(v, roleRoot) == name
}
