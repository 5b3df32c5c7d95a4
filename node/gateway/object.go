package gateway

import (
	"encoding/base64"
	"net/http"
	"time"

	"swarmnode/content"
)

// object is a file or directory as it is found under a path, with the headers that follow from signed data: the same at every gateway
// that has the release. It is never changed.
type object struct {
	path  string        // as it was asked for
	entry content.Entry // no symlink; its path is where the symlinks led

	mtime    time.Time // of the entry; zero when it has none
	etag     []string
	modified []string
	digest   []string
	repr     []string
	ctype    []string
	cache    []string
}

// acceptRanges is shared by all answers; nobody writes to it.
var acceptRanges = []string{"bytes"}

func newObject(path string, e content.Entry) *object {
	o := &object{path: path, entry: e}
	if !e.IsFile() {
		return o
	}
	o.mtime = sinceEpoch(e.Mtime)
	if !o.mtime.IsZero() {
		o.modified = []string{o.mtime.Format(http.TimeFormat)}
	}
	sum := base64.StdEncoding.EncodeToString(e.SHA256[:])
	o.etag = []string{`"` + e.SHA256.String() + `"`}
	o.digest = []string{"SHA-256=" + sum}      // RFC 3230: aria2 verifies it
	o.repr = []string{"sha-256=:" + sum + ":"} // RFC 9530
	o.ctype = []string{mediaType(path, e.Path)}
	o.cache = []string{cacheControl(path)}
	return o
}

// validators sets the headers that every answer about o has, also 304 and 416.
func (o *object) validators(h http.Header) {
	h["Accept-Ranges"] = acceptRanges
	h["Etag"] = o.etag
	h["Cache-Control"] = o.cache
	if o.modified != nil {
		h["Last-Modified"] = o.modified
	}
}

// describe sets the headers of an answer with bytes of o. The digests are of the whole file, also when only a part is sent.
func (o *object) describe(h http.Header) {
	h["Content-Type"] = o.ctype
	h["Digest"] = o.digest
	h["Repr-Digest"] = o.repr
	if active[o.ctype[0]] {
		h.Set("Content-Security-Policy", "sandbox")
	}
}

// sinceEpoch is the time of an entry; zero when HTTP cannot express it.
func sinceEpoch(seconds int64) time.Time {
	if seconds <= 0 || seconds > 253_402_300_799 { // 9999-12-31, the last date of HTTP's four-digit years
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}
