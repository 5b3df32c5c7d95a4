package gateway

import (
	"path"
	"strings"
)

// mutable reports whether other bytes can come under this path with the next release: indexes, directories, everything but what has
// its version or its hash in its name. Old versions of such a path are never served, and none after the collection has expired.
//
// What archives name by version: all below pool/, packages, disk images, source archives, with their signatures. A wrong guess is
// harmless: an image that is replaced under its old name is still taken from the current release.
func mutable(p string) bool {
	if hashed(p) {
		return false
	}
	base := path.Base(p)
	for {
		ending := strings.ToLower(path.Ext(base))
		if packed[ending] {
			return database(base)
		}
		if !appended[ending] {
			break
		}
		base = base[:len(base)-len(ending)]
	}
	below, ok := strings.CutPrefix(p, "pool/")
	return !(ok && below != "" || strings.Contains(p, "/pool/")) || database(base)
}

// Mutable reports whether other bytes can come under this path with the next release: indexes and all that names other files, as
// against packages, images and what has its hash in its name.
func Mutable(p string) bool { return mutable(p) }

// packed are the endings of packages, images and archives; a compressed file is one only if a .tar or .img is in it.
var packed = map[string]bool{
	".deb": true, ".udeb": true, ".ddeb": true, ".dsc": true, ".rpm": true, ".drpm": true, ".apk": true, ".tar": true, ".tgz": true, ".txz": true,
	".iso": true, ".img": true, ".qcow2": true, ".raw": true, ".zip": true, ".whl": true, ".gem": true, ".jar": true, ".appimage": true, ".msi": true,
	".exe": true, ".dmg": true, ".zck": true,
}

// appended are the endings that are added to the name of a file, and say nothing of whether it changes.
var appended = map[string]bool{
	".sig": true, ".asc": true, ".sign": true, ".gpg": true, ".sha256": true, ".torrent": true, ".zsync": true, ".meta4": true, ".metalink": true,
	".gz": true, ".xz": true, ".zst": true, ".bz2": true, ".lz4": true, ".lzma": true,
}

// database reports whether a name is that of one of pacman's indexes, which are archives: core.db, core.files.tar.gz.
func database(base string) bool {
	name := strings.TrimSuffix(base, ".tar")
	return strings.HasSuffix(name, ".db") || strings.HasSuffix(name, ".files")
}

// hashed reports whether the path names its bytes by their hash, so that it never means anything else: apt's by-hash, and names that
// begin with a SHA-1 or longer in hexadecimal and a dash, as createrepo_c writes them.
func hashed(p string) bool {
	if _, _, _, ok := splitByHash(p); ok {
		return true
	}
	hash, _, dash := strings.Cut(path.Base(p), "-")
	return dash && len(hash) >= 40 && strings.Trim(hash, "0123456789abcdef") == ""
}

// cacheControl is what caches between here and the client may do: keep what has its hash in its name for a year, packages for a day
// (a publisher can replace one under its old name), and ask every time for all else: the answer is 304 by its ETag.
func cacheControl(p string) string {
	switch {
	case hashed(p):
		return "public, max-age=31536000, immutable"
	case mutable(p):
		return "public, no-cache"
	}
	return "public, max-age=86400"
}
