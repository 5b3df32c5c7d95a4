package origin

import (
	"maps"
	"slices"
	"strings"
)

// A symlink to nowhere stands on an index page like a file, and only who reads it learns that there is nothing. So a path that was
// not found is asked for by the next listings before they give it on: one request for each, instead of a whole listing once more
// to find out whether it is only gone by now.

const (
	memoMissing = "missing" // paths, a line for each: no path has a line break in it
	// maxMissing is how many are remembered. What is beyond costs each run one more listing.
	maxMissing = 1000
)

// missing are paths that were listed and not found. The mutex of the origin guards it.
type missing struct {
	suspects map[string]bool // what this listing asks for
	found    map[string]bool // what was not found since it began
}

// begin starts a listing with what the last one, and who read since, have not found.
func (w *web) begin(memo string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.suspects = w.found
	if w.found = map[string]bool{}; w.suspects == nil {
		w.suspects = map[string]bool{}
	}
	for p := range strings.SplitSeq(memo, "\n") {
		if p != "" {
			w.suspects[p] = true
		}
	}
}

// suspect reports whether there may be nothing at a path. The caller holds mu.
func (w *web) suspect(p string) bool { return w.suspects[p] }

// stays says that a path of the listing is not there. The caller holds mu.
func (w *web) stays(p string) {
	if w.found == nil {
		w.found = map[string]bool{}
	}
	if len(w.found) < maxMissing {
		w.found[p] = true
	}
}

// notFound says that who wanted to read a path did not find it.
func (w *web) notFound(p string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stays(p)
}

// keep puts what was not found into the memo of a listing.
func (w *web) keep(memo map[string]string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.found) > 0 {
		memo[memoMissing] = strings.Join(slices.Sorted(maps.Keys(w.found)), "\n")
	}
}
