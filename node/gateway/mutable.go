package gateway

import (
	"regexp"
)

// mutable reports whether other bytes can come under this path with the next release: indexes, directories, everything but what has
// its version or its hash in its name. Old versions of such a path are never served, and none after the collection has expired.
func mutable(path string) bool { return !immutable.MatchString(path) || database.MatchString(path) }

// hashed reports whether the path names its bytes by their hash: it never means anything else.
func hashed(path string) bool { return hashedName.MatchString(path) }

var (
	// immutable matches what archives name by version: all below pool/, packages, disk images, source archives, with their signatures;
	// and what they name by hash: apt's by-hash, repodata/HASH-primary.xml.gz. A wrong guess is harmless: an image that is replaced under
	// its old name is still taken from the current release.
	immutable = regexp.MustCompile(`(^|/)pool/.|` + packages + `(\.(sig|asc|sign|gpg|sha256|torrent|zsync|meta4|metalink))?$|` + byHashForm + `|` + hashForm)
	// database matches pacman's indexes, which have the form of an archive.
	database = regexp.MustCompile(`\.(db|files)(\.tar(\.\w+)?)?(\.sig)?$`)
	// hashedName matches the names that hold the hash of the bytes.
	hashedName = regexp.MustCompile(byHashForm + `|` + hashForm)
)

const (
	packages   = `\.(u?deb|ddeb|dsc|d?rpm|apk|pkg\.tar(\.\w+)?|tar(\.\w+)?|t[gx]z|iso|img(\.\w+)?|qcow2|raw|zip|whl|gem|jar|AppImage|msi|exe|dmg|zck)`
	byHashForm = `(^|/)by-hash/\w+/[0-9a-f]+$`
	// hashForm is a name that begins with a SHA-1 or longer in hexadecimal and a dash, as createrepo_c writes it.
	hashForm = `(^|/)[0-9a-f]{40,128}-[^/]+$`
)

// cacheControl is what caches between here and the client may do: keep what has its hash in its name for a year, packages for a day
// (a publisher can replace one under its old name), and ask every time for all else: the answer is 304 by its ETag.
func cacheControl(path string) string {
	switch {
	case hashed(path):
		return "public, max-age=31536000, immutable"
	case mutable(path):
		return "public, no-cache"
	}
	return "public, max-age=86400"
}
