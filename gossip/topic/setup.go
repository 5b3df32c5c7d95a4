package topic

import (
	"context"
	"log/slog"

	"github.com/libp2p/go-libp2p/core/host"
)

// Setup gives a function that starts a Net on a host and leaves it in *n: for the makers of a host that have it set up before
// it listens, without having to know its type.
func Setup(ctx context.Context, log *slog.Logger, n **Net) func(host.Host) error {
	return func(h host.Host) (err error) {
		*n, err = New(ctx, h, log)
		return err
	}
}
