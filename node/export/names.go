package export

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"os"
	"strings"
)

// NameError says that a path of the release cannot be written to this system.
type NameError struct {
	Path string // in the target
	Why  string
}

func (e *NameError) Error() string {
	return fmt.Sprintf("%q cannot be written here: %s", e.Path, e.Why)
}

// checkWindowsPath refuses what Windows takes for something else than a plain name: reserved characters, device
// names (with any extension), and a dot or space at the end, which it drops. Microsoft, "Naming Files, Paths, and Namespaces".
func checkWindowsPath(p string) error {
	for part := range strings.SplitSeq(p, "/") {
		stem, _, _ := strings.Cut(part, ".")
		switch {
		case strings.ContainsAny(part, `<>:"|?*\`):
			return &NameError{p, `names on Windows hold none of < > : " | ? * \`}
		case strings.HasSuffix(part, ".") || strings.HasSuffix(part, " "):
			return &NameError{p, "names on Windows do not end in a dot or a space"}
		case isDevice(strings.TrimRight(stem, " ")):
			return &NameError{p, "the name is that of a device on Windows"}
		}
	}
	return nil
}

func isDevice(stem string) bool {
	s := strings.ToUpper(stem)
	switch s {
	case "CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$":
		return true
	}
	port, ok := strings.CutPrefix(s, "COM")
	if !ok {
		port, ok = strings.CutPrefix(s, "LPT")
	}
	return ok && (len(port) == 1 && port[0] >= '0' && port[0] <= '9' || port == "¹" || port == "²" || port == "³")
}

// checkCase refuses two paths that differ in upper and lower case only.
func (l listing) checkCase() error {
	seed := maphash.MakeSeed()
	seen := make(map[uint64]uint32, len(l.entries))
	for i := range l.entries {
		out := l.out(i)
		h := maphash.String(seed, strings.ToLower(strings.ToUpper(out)))
		if j, ok := seen[h]; ok && strings.EqualFold(l.out(int(j)), out) {
			return &NameError{out, fmt.Sprintf("this file system takes it for the same name as %q", l.out(int(j)))}
		}
		seen[h] = uint32(i)
	}
	return nil
}

// folds finds out whether the file system takes upper and lower case for the same.
func folds(parts *os.Root) (bool, error) {
	const probe = "probe"
	f, err := parts.OpenFile(probe, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return false, err
	}
	f.Close()
	_, err = parts.Lstat(strings.ToUpper(probe))
	if rerr := parts.Remove(probe); rerr != nil {
		return false, rerr
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
