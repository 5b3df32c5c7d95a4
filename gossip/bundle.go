package gossip

import (
	"fmt"

	"swarmnode/content"
	"swarmnode/content/guard"
)

// bundleBlock is the encoded form of a bundle.
type bundleBlock struct {
	_       struct{} `cbor:",toarray"`
	Version uint64
	Files   map[string][]byte
}

// EncodeBundle gives the bytes of a bundle, always the same for the same files. It is an error to exceed a limit.
func EncodeBundle(b Bundle) ([]byte, error) {
	if err := checkBundle(b); err != nil {
		return nil, fmt.Errorf("encode bundle: %w", err)
	}
	raw := content.Encode(bundleBlock{Version: content.Version, Files: b.Files})
	if len(raw) > MaxBundle {
		return nil, fmt.Errorf("encode bundle: %d bytes, at most %d are allowed", len(raw), MaxBundle)
	}
	return raw, nil
}

// DecodeBundle reads what EncodeBundle writes. Errors wrap [ErrMalformed], except [content.NewerError].
func DecodeBundle(raw []byte) (Bundle, error) {
	var w bundleBlock
	limit := MaxBundle
	if !guard.On(guard.BundleLimit) {
		limit = len(raw)
	}
	if err := decode(raw, limit, &w, &w.Version); err != nil {
		return Bundle{}, fmt.Errorf("bundle: %w", err)
	}
	b := Bundle{Files: w.Files}
	if err := checkBundle(b); err != nil {
		return Bundle{}, fmt.Errorf("bundle: %w", err)
	}
	return b, nil
}

func checkBundle(b Bundle) error {
	if len(b.Files) == 0 || len(b.Files) > MaxBundleFiles {
		return fmt.Errorf("%w: %d files, 1 to %d are allowed", ErrMalformed, len(b.Files), MaxBundleFiles)
	}
	for name := range b.Files {
		if !IsFileName(name) {
			return fmt.Errorf("%w: %.80q is not the name of a TUF file", ErrMalformed, name)
		}
	}
	return nil
}

// IsFileName reports whether name is one of a TUF metadata file as this program names them: an optional version, a
// role and ".json", as in "timestamp.json" and "12.snapshot.json". The role is lower-case letters, digits and inner
// hyphens, so that a name is a safe file name everywhere.
func IsFileName(name string) bool {
	const suffix = ".json"
	if len(name) > MaxFileName || len(name) <= len(suffix) || name[len(name)-len(suffix):] != suffix {
		return false
	}
	name = name[:len(name)-len(suffix)]
	digits := 0
	for digits < len(name) && name[digits] >= '0' && name[digits] <= '9' {
		digits++
	}
	if digits > 0 {
		if name[0] == '0' || digits > maxVersionDigits || digits == len(name) || name[digits] != '.' {
			return false
		}
		name = name[digits+1:]
	}
	return isRole(name)
}

// maxVersionDigits keeps versions within an int64.
const maxVersionDigits = 18

func isRole(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z':
		case i > 0 && (c >= '0' && c <= '9'):
		case i > 0 && i < len(s)-1 && c == '-':
		default:
			return false
		}
	}
	return s != ""
}

// decode reads a block whose first element is the format version, and tells a malformed one from one of a later
// program, which may have more elements: the latter is nobody's fault.
func decode(raw []byte, limit int, v any, version *uint64) error {
	const array, oneByte = 4, 23 // major type of an array, largest number in one byte (RFC 8949 section 3)
	if len(raw) >= 2 && len(raw) <= limit && raw[0]>>5 == array && raw[1] > content.Version && raw[1] <= oneByte {
		return &content.NewerError{Version: uint64(raw[1])}
	}
	if err := content.Decode(raw, limit, v); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if *version != content.Version {
		return fmt.Errorf("%w: format version %d", ErrMalformed, *version)
	}
	return nil
}
