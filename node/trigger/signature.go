package trigger

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// SignatureHeader has "t=UNIX,v1=HEX": the time in seconds, and the HMAC-SHA256 under the secret of that time as it is written, a
	// dot, and the body.
	SignatureHeader = "X-Swarmnode-Signature"
	// maxSkew is how far the time of a signature may be from ours.
	maxSkew = 5 * time.Minute
	// rememberFor is how long a signature is remembered, so that it counts once: from maxSkew before until maxSkew after it can be valid.
	rememberFor = 2 * maxSkew
	// maxRemembered is how many are. More valid calls in ten minutes than that are refused: they would be more than 100 a second.
	maxRemembered = 1 << 16
	// minSecret is how long a secret has to be: 128 bits, if it is written in hexadecimal digits.
	minSecret = 32
)

// errSignature is all that a caller hears: what is wrong with a signature would help who guesses.
var errSignature = errors.New("the signature is missing, wrong, too old or was used before")

func mac(secret []byte, at string, body []byte) []byte {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(at + "."))
	h.Write(body)
	return h.Sum(nil)
}

// parseSignature reads a header. Fields that are not known are for later versions.
func parseSignature(header string) (at string, when time.Time, sum []byte, err error) {
	for field := range strings.SplitSeq(header, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		switch name {
		case "t":
			at = value
		case "v1":
			if sum, err = hex.DecodeString(value); err != nil || len(sum) != sha256.Size {
				return "", when, nil, errSignature
			}
		}
	}
	unix, err := strconv.ParseInt(at, 10, 64)
	if err != nil || sum == nil {
		return "", when, nil, errSignature
	}
	return at, time.Unix(unix, 0), sum, nil
}

// memory remembers signatures, so that each counts once.
type memory struct {
	mu   sync.Mutex // guards seen
	seen map[[sha256.Size]byte]time.Time
}

// verify checks a signature and remembers it.
func (m *memory) verify(secret []byte, header string, body []byte, now time.Time) error {
	at, when, sum, err := parseSignature(header)
	if err != nil {
		return err
	}
	if !hmac.Equal(sum, mac(secret, at, body)) || now.Sub(when).Abs() > maxSkew {
		return errSignature
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	key := [sha256.Size]byte(sum)
	if was, ok := m.seen[key]; ok && now.Sub(was) < rememberFor {
		return errSignature
	}
	if len(m.seen) >= maxRemembered {
		for k, was := range m.seen {
			if now.Sub(was) >= rememberFor {
				delete(m.seen, k)
			}
		}
		if len(m.seen) >= maxRemembered {
			return errSignature
		}
	}
	if m.seen == nil {
		m.seen = map[[sha256.Size]byte]time.Time{}
	}
	m.seen[key] = now
	return nil
}
