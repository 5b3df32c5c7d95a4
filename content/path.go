package content

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"swarmnode/content/guard"
)

// ErrPath is the cause of every refusal of a path or a symlink target.
var ErrPath = errors.New("path is not allowed")

// ComparePaths orders paths by their bytes, with '/' before every other byte: a directory is followed directly by
// all that is in it, which is also the order in which a recursive walk by name meets them.
func ComparePaths(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		x, y := a[i], b[i]
		if x == y {
			continue
		}
		switch {
		case x == '/':
			return -1
		case y == '/':
			return 1
		case x < y:
			return -1
		}
		return 1
	}
	return len(a) - len(b)
}

// CheckPath refuses what no tree may hold: paths that are empty, absolute, too long or too deep, that have an empty
// part, "." or "..", that are not UTF-8, or that hold a control character. What only some systems cannot hold
// (upper and lower case, device names, backslash) is refused where a tree is written on such a system.
func CheckPath(p string) error {
	switch {
	case p == "":
		return fmt.Errorf("%w: empty", ErrPath)
	case len(p) > MaxPath:
		return fmt.Errorf("%w: %q… has %d bytes, at most %d are allowed", ErrPath, p[:40], len(p), MaxPath)
	case !utf8.ValidString(p):
		return fmt.Errorf("%w: %q is not UTF-8", ErrPath, p)
	}
	depth := 0
	for part := range strings.SplitSeq(p, "/") {
		depth++
		switch {
		case guard.On(guard.PathParts) && (part == "" || part == "." || part == ".."):
			return fmt.Errorf("%w: %q has the part %q", ErrPath, p, part)
		case len(part) > MaxName:
			return fmt.Errorf("%w: %q has a name of %d bytes, at most %d are allowed", ErrPath, p, len(part), MaxName)
		}
	}
	if depth > MaxDepth {
		return fmt.Errorf("%w: %q is %d directories deep, at most %d are allowed", ErrPath, p, depth, MaxDepth)
	}
	if guard.On(guard.PathControl) && strings.ContainsFunc(p, unicode.IsControl) {
		return fmt.Errorf("%w: %q holds a control character", ErrPath, p)
	}
	return nil
}

// CheckTarget refuses a symlink at path whose target is absolute, malformed or leads out of the tree.
func CheckTarget(path, target string) error {
	switch {
	case target == "" || len(target) > MaxPath || !utf8.ValidString(target) || strings.ContainsFunc(target, unicode.IsControl):
		return fmt.Errorf("%w: symlink %q to %.80q", ErrPath, path, target)
	case guard.On(guard.TargetAbsolute) && strings.HasPrefix(target, "/"):
		return fmt.Errorf("%w: symlink %q leads out of the tree, to %q", ErrPath, path, target)
	}
	depth := strings.Count(path, "/")
	for part := range strings.SplitSeq(target, "/") {
		switch part {
		case "", ".":
		case "..":
			if depth--; depth < 0 && guard.On(guard.TargetOutside) {
				return fmt.Errorf("%w: symlink %q leads out of the tree, to %q", ErrPath, path, target)
			}
		default:
			depth++
		}
	}
	return nil
}

// CheckName refuses what cannot be the name of a collection: it stands in URLs and on command lines.
func CheckName(name string) error {
	if name == "" || len(name) > 64 {
		return fmt.Errorf("%w: a collection's name has 1 to 64 characters, not %d", ErrPath, len(name))
	}
	for i, r := range name {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !letter && (i == 0 || r != '-' && r != '_' && r != '.') {
			return fmt.Errorf("%w: collection name %q: only letters, digits and (not first) - _ . are allowed", ErrPath, name)
		}
	}
	return nil
}

// parent gives the directory that holds p; "" for the top.
func parent(p string) string {
	return p[:max(strings.LastIndexByte(p, '/'), 0)]
}

// afterSubtree is a key that sorts behind p and all that is in it and before everything else that follows: no
// path holds the byte 1.
func afterSubtree(p string) string { return p + "\x01" }
