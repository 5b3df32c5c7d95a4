package gateway

import (
	"path"
	"strings"
)

// octets is the type of all that browsers should save and not show.
const octets = "application/octet-stream"

const (
	plain = "text/plain; charset=utf-8"
	html  = "text/html; charset=utf-8"
)

// types are the media types by the end of the name. What is compressed has the type of its compression and never Content-Encoding:
// the bytes are the file. Images of disks are octet-stream, so that they are saved.
var types = map[string]string{
	".deb": "application/vnd.debian.binary-package", ".udeb": "application/vnd.debian.binary-package", ".ddeb": "application/vnd.debian.binary-package",
	".rpm": "application/x-rpm", ".drpm": "application/x-rpm", ".apk": octets, ".iso": octets, ".img": octets, ".qcow2": octets, ".raw": octets,
	".gz": "application/gzip", ".tgz": "application/gzip", ".xz": "application/x-xz", ".txz": "application/x-xz", ".zst": "application/zstd",
	".bz2": "application/x-bzip2", ".lzma": "application/x-lzma", ".lz4": "application/x-lz4", ".zck": octets, ".tar": "application/x-tar",
	".zip": "application/zip", ".jar": "application/java-archive", ".7z": "application/x-7z-compressed",
	".torrent": "application/x-bittorrent", ".meta4": "application/metalink4+xml", ".metalink": "application/metalink+xml", ".zsync": "application/x-zsync",
	".sig": "application/pgp-signature", ".asc": plain, ".sign": plain, ".gpg": octets, ".pgp": octets,
	".sha256": plain, ".sha512": plain, ".sha1": plain, ".md5": plain, ".sha256sum": plain, ".txt": plain, ".md": plain, ".rst": plain, ".log": plain,
	".dsc": plain, ".changes": plain, ".buildinfo": plain, ".diff": plain, ".patch": plain, ".list": plain, ".sources": plain, ".repo": plain, ".conf": plain,
	".cfg": plain, ".ini": plain, ".yml": plain, ".yaml": plain, ".sh": plain, ".py": plain, ".jigdo": octets, ".template": octets,
	".html": html, ".htm": html, ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".json": "application/json",
	".xml": "application/xml", ".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif",
	".webp": "image/webp", ".ico": "image/x-icon", ".pdf": "application/pdf", ".mp4": "video/mp4", ".webm": "video/webm", ".ogg": "audio/ogg",
	".mp3": "audio/mpeg", ".woff2": "font/woff2",
}

// names are the files without an ending that people open to read.
var names = map[string]bool{
	"Release": true, "InRelease": true, "Packages": true, "Sources": true, "README": true, "LICENSE": true, "COPYING": true, "ChangeLog": true,
	"Index": true, "SHA256SUMS": true, "SHA512SUMS": true, "SHA1SUMS": true, "MD5SUMS": true, "CHECKSUM": true, "md5sum": true, "ls-lR": true,
}

// active are the types that a browser runs scripts of. They are shown in a sandbox: what a publisher put in a tree has no business with
// the other pages of the volunteer's site.
var active = map[string]bool{html: true, "application/xml": true, "image/svg+xml": true, "application/metalink4+xml": true, "application/metalink+xml": true}

// mediaType gives the type of a file by the name it was asked for, else by the name it really has.
func mediaType(asked, real string) string {
	for _, p := range []string{asked, real} {
		base := path.Base(p)
		if t, ok := types[strings.ToLower(path.Ext(base))]; ok {
			return t
		}
		if names[base] {
			return plain
		}
	}
	return octets
}
