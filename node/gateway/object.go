package gateway

import (
	"encoding/base64"
	"net/http"
	"strconv"
	"time"

	"swarmnode/content"
)

// object is a file or directory as it is found under a path, with the headers that follow from signed data: the same at every gateway
// that has the release. It is never changed.
type object struct {
	path  string        // as it was asked for
	entry content.Entry // no symlink; its path is where the symlinks led
	mtime time.Time     // of the entry; zero when it has none

	// The values of headers, each a slice of one, as http.Header has them: setting them then allocates nothing.
	etag, modified, digest, repr, ctype, cache, length []string
}

// Values that all answers share; nobody writes to them.
var (
	acceptRanges = []string{"bytes"}
	noSniff      = []string{"nosniff"}
)

func newObject(path string, e content.Entry) *object {
	o := &object{path: path, entry: e}
	if !e.IsFile() {
		return o
	}
	sum := base64.StdEncoding.EncodeToString(e.SHA256[:])
	values := [7]string{
		`"` + e.SHA256.String() + `"`,
		"SHA-256=" + sum,        // RFC 3230: aria2 verifies it
		"sha-256=:" + sum + ":", // RFC 9530
		mediaType(path, e.Path),
		cacheControl(path),
		strconv.FormatUint(e.Size, 10),
	}
	o.etag, o.digest, o.repr, o.ctype, o.cache = values[0:1:1], values[1:2:2], values[2:3:3], values[3:4:4], values[4:5:5]
	o.length = values[5:6:6]
	if o.mtime = sinceEpoch(e.Mtime); !o.mtime.IsZero() {
		values[6] = o.mtime.Format(http.TimeFormat)
		o.modified = values[6:7:7]
	}
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
