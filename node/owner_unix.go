//go:build unix

package node

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// checkOwner refuses a file of a home directory that belongs to another user: what root wrote there, the user's own node could not read
// any more.
func checkOwner(home string, st os.FileInfo) error {
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok || int(sys.Uid) == os.Geteuid() {
		return nil
	}
	name := strconv.Itoa(int(sys.Uid))
	if u, err := user.LookupId(name); err == nil {
		name = u.Username
	}
	return fmt.Errorf("the home directory %s is used by the user %s: run the command as that user (sudo -u %s swarmnode …), or use another with --home", home, name, name)
}
