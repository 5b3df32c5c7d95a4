package gossip

import "fmt"

// EncodeMessage gives the bytes of a message on a collection's topic: its kind and its payload.
func EncodeMessage(kind Kind, payload []byte) ([]byte, error) {
	if err := checkMessage(kind, len(payload)); err != nil {
		return nil, fmt.Errorf("encode message: %w", err)
	}
	return append([]byte{byte(kind)}, payload...), nil
}

// DecodeMessage splits a message. The payload shares memory with raw. A kind that this program does not know is an
// [UnknownKindError], as a later program may send it.
func DecodeMessage(raw []byte) (Kind, []byte, error) {
	if len(raw) == 0 {
		return 0, nil, fmt.Errorf("message: %w: it is empty", ErrMalformed)
	}
	kind, payload := Kind(raw[0]), raw[1:]
	if err := checkMessage(kind, len(payload)); err != nil {
		return 0, nil, fmt.Errorf("message: %w", err)
	}
	return kind, payload, nil
}

// UnknownKindError says that a message is of a kind that this program does not know.
type UnknownKindError struct{ Kind Kind }

func (e *UnknownKindError) Error() string { return fmt.Sprintf("message of unknown kind %d", e.Kind) }

func checkMessage(kind Kind, size int) error {
	limit := 0
	switch kind {
	case KindAnnouncement:
		limit = MaxBundle
	case KindMember:
		limit = MaxSealedMember
	default:
		return &UnknownKindError{Kind: kind}
	}
	if size == 0 || size > limit {
		return fmt.Errorf("%w: %d bytes of kind %d, 1 to %d are allowed", ErrMalformed, size, kind, limit)
	}
	return nil
}
