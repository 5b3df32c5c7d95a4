package trust

import (
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"swarmnode/gossip"
)

// renewSlack is how long after a third of its life a file may still come: a publisher looks once in a heartbeat, and three may be
// missed (DESIGN section 5).
const renewSlack = 3 * gossip.Heartbeat

// Expiring is a role whose metadata nobody has renewed in time.
type Expiring struct {
	Role    string
	Expires time.Time
}

// Expiring lists the roles of which less than a third of the life is left, so that whoever mirrors hears of it before it ends. A
// timestamp tells when it was signed; the life of the others counts from when they were first seen here.
func (r *Repository) Expiring(now time.Time) []Expiring {
	r.mu.Lock()
	defer r.mu.Unlock()
	now = r.floored(now)
	if r.set.timestamp == nil {
		return nil
	}
	var out []Expiring
	look := func(name, role string, expires time.Time) {
		from, ok := r.seen[name]
		if role == roleTimestamp {
			from, ok = r.head.Signed, true
		}
		if ok && expires.Sub(now)+renewSlack < expires.Sub(from)/3 {
			out = append(out, Expiring{Role: role, Expires: expires})
		}
	}
	look(versioned(r.set.rootVersion(), roleRoot), roleRoot, r.set.root.Signed.Expires)
	look(versioned(r.set.targets[roleTargets].Signed.Version, roleTargets), roleTargets, r.set.targets[roleTargets].Signed.Expires)
	name := versioned(r.set.snapshot.Signed.Meta[roleRelease+".json"].Version, roleRelease)
	if m, err := metadata.Targets().FromBytes(r.set.files[name]); err == nil {
		look(name, roleRelease, m.Signed.Expires)
	}
	look(versioned(r.set.snapshot.Signed.Version, roleSnapshot), roleSnapshot, r.set.snapshot.Signed.Expires)
	look(timestampFile, roleTimestamp, r.set.timestamp.Signed.Expires)
	return out
}

// seenBy adds the files of a set that are new to what was seen, and leaves out those that are gone.
func seenBy(seen map[string]time.Time, set *trusted, now time.Time) map[string]time.Time {
	next := map[string]time.Time{}
	for name := range set.files {
		if name == timestampFile || strings.HasSuffix(name, "."+roleRoot+".json") && name != versioned(set.rootVersion(), roleRoot) {
			continue
		}
		if next[name] = now.UTC().Truncate(time.Second); !seen[name].IsZero() {
			next[name] = seen[name]
		}
	}
	return next
}
