package p2p

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"swarmnode/content"
)

var (
	// ErrNotHere says that the peer does not have what was asked of it. [NotHereError] says what.
	ErrNotHere = errors.New("not here")
	// ErrBadAnswer says that the peer broke the protocol: a wrong length, a wrong hash, an unknown status.
	ErrBadAnswer = errors.New("bad answer")
	// ErrTimeout says that the peer did not get on with its answer.
	ErrTimeout = errors.New("the peer stalled")
	// ErrClosed says that the host has been closed.
	ErrClosed = errors.New("the p2p host is closed")
)

// NotHereError lists what the peer said it does not have. Everything else that was asked for has been delivered.
// It is an [ErrNotHere].
type NotHereError struct {
	Refs   []content.Ref
	Blocks []content.Digest
}

func (e *NotHereError) Error() string {
	if len(e.Blocks) > 0 {
		return fmt.Sprintf("%d metadata blocks are not here, the first is %s", len(e.Blocks), e.Blocks[0].BlockCID())
	}
	return fmt.Sprintf("%d chunks are not here, the first is %d of segment %d", len(e.Refs), e.Refs[0].Index, e.Refs[0].Segment)
}

// Is makes it an ErrNotHere.
func (e *NotHereError) Is(target error) bool { return target == ErrNotHere }

// BusyError says that the peer has no room for the request now. Zero means that the answer was cut at a limit
// and the rest can be asked for at once.
type BusyError struct{ RetryAfter time.Duration }

func (e *BusyError) Error() string { return fmt.Sprintf("busy, ask again in %s", e.RetryAfter) }

// PeerMismatchError says that another node than the one asked for answers at an address.
type PeerMismatchError struct{ Address, Want, Got string }

func (e *PeerMismatchError) Error() string {
	return fmt.Sprintf("the node at %s answered as %s, not %s: its key has changed or the address is another node's; "+
		"ask its operator for the new address", e.Address, e.Got, e.Want)
}

// streamError names the cause of a failed read or write so that a caller can branch on it: the end of ctx, a
// stalled peer, a full one, or a broken connection.
func streamError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var se *network.StreamError
	if errors.As(err, &se) && se.Remote &&
		(se.ErrorCode == network.StreamResourceLimitExceeded || se.ErrorCode == network.StreamRateLimited) {
		return fmt.Errorf("%w (%w)", &BusyError{RetryAfter: retryAfter}, err)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) || isTimeout(err) {
		return fmt.Errorf("%w: %w", ErrTimeout, err)
	}
	return err
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}
