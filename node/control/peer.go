package control

import (
	"log/slog"
	"net"
	"os"

	"swarmnode/content/guard"
)

// ownSocket lets in nobody but the user of this process and root. The mode of the socket says so, too; this holds when somebody has
// changed that, or the home is on a file system without modes.
type ownSocket struct {
	*net.UnixListener
	log  *slog.Logger
	told bool // somebody was sent away; only Accept uses it, and only one goroutine that
}

// Accept waits for a connection of somebody who may have one.
func (l *ownSocket) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		uid, err := userOf(c)
		if err == nil && mayControl(uid, os.Geteuid()) {
			return c, nil
		}
		if !l.told {
			l.told = true
			attrs := []any{"user", uid}
			if err != nil {
				attrs = []any{"error", err} // then nobody knows who
			}
			l.log.Warn("another user tried the control socket and was sent away: run swarmnode as the user of the node", attrs...)
		}
		c.Close()
	}
}

// mayControl reports whether a user may control a node of another one.
func mayControl(uid, node int) bool {
	return uid == node || uid == 0 || !guard.On(guard.SocketUser)
}
