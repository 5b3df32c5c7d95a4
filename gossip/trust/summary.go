package trust

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Summary says in words what is to be signed, a line for each fact. All of it is read from the bytes to sign.
func (r *Request) Summary() ([]string, error) {
	out := []string{fmt.Sprintf("collection %s", r.Collection)}
	for _, d := range r.docs {
		switch d.role {
		case roleRoot:
			out = append(out, fmt.Sprintf("root %d, valid until %s", d.root.Signed.Version, d.root.Signed.Expires.Format(time.DateOnly)))
			for _, role := range []string{roleRoot, roleTargets, roleSnapshot, roleTimestamp} {
				out = append(out, changeOf(authorityOf(r.root, role), authorityOf(d.root, role)))
			}
		case roleTargets:
			a, err := releaseAuthority(d.targets)
			if err != nil {
				return nil, err
			}
			out = append(out, fmt.Sprintf("targets %d, valid until %s", d.targets.Signed.Version, d.targets.Signed.Expires.Format(time.DateOnly)),
				fmt.Sprintf("  releases are signed by %s", keysInWords(a)))
		case roleRelease:
			h, err := releaseIn(d.targets)
			if err != nil {
				return nil, err
			}
			out = append(out, fmt.Sprintf("release %d of %s, valid until %s", h.Release, h.Name, d.targets.Signed.Expires.Format(time.DateOnly)),
				fmt.Sprintf("  %d files, %d bytes, manifest %s", h.Files, h.Bytes, h.Manifest.BlockCID()))
			out = append(out, furtherTargets(d.targets)...)
		}
		out = append(out, fmt.Sprintf("  signed by: %s", strings.Join(signersOf(d), ", ")))
	}
	return out, nil
}

func changeOf(old, now authority) string {
	if old.same(now) {
		return fmt.Sprintf("  %s stays with %s", now.role, keysInWords(now))
	}
	text := fmt.Sprintf("  %s CHANGES to %s", now.role, keysInWords(now))
	for _, id := range old.ids {
		if !slices.Contains(now.ids, id) {
			text += fmt.Sprintf("; %s no longer counts", shorten(id))
		}
	}
	return text
}

func keysInWords(a authority) string {
	var short []string
	for _, id := range slices.Sorted(slices.Values(a.ids)) {
		short = append(short, shorten(id))
	}
	return fmt.Sprintf("%d of the keys %s", a.threshold, strings.Join(short, ", "))
}

func signersOf(d *document) []string {
	list := []string{}
	for _, s := range *d.signatures() {
		list = append(list, shorten(s.KeyID))
	}
	if len(list) == 0 {
		list = append(list, "nobody yet")
	}
	return list
}
