package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"swarmnode/content/durable"
)

// versionFile says in the home directory how what is in there is laid out: a number in a line. A home without it was last used by a
// swarmnode of before the file, and is version 0.
const versionFile = "version"

// ErrNewerHome says that a later version of swarmnode has used the home directory.
var ErrNewerHome = errors.New("was last used by a later version of swarmnode, which may keep things in another way: run that one, or use another directory with --home")

// step brings a home directory from one version to the next. It can be cut off at any moment and is then done again from its begin.
type step func(home string) error

// steps bring a home directory to the present version: steps[0] from version 0 to 1, and so on. What a released version wrote is
// never changed here; testdata has a home of each.
func steps() []step {
	return []step{
		// 1 differs from 0 by the file that says so, and by "paused" in the records of collections, which may be missing.
		// So may "export", "from", "triggers" and "scan": one with an origin is none that an earlier version could open, the others are.
		func(string) error { return nil },
	}
}

// clientSteps do the same for the directory in which a client keeps what it has verified of a collection.
func clientSteps() []step {
	return []step{
		// 1 differs from 0 by the file that says so.
		func(string) error { return nil },
	}
}

// checkHome refuses a home directory that a later version has used, without taking it. There may be none.
func checkHome(home string) error {
	at, err := readVersion(home)
	if err == nil && at > len(steps()) {
		err = tooNew(home, at, len(steps()))
	}
	return err
}

func tooNew(dir string, at, known int) error {
	return fmt.Errorf("%s %w (its version is %d, this program knows up to %d)", dir, ErrNewerHome, at, known)
}

// takeHome takes a home directory for this process, as lockHome, and brings it to the present version.
func takeHome(home string) (*os.File, error) {
	lock, err := lockHome(home)
	if err != nil {
		return nil, homeTrouble(home, err)
	}
	if err := upgrade(home, steps()); err != nil {
		return nil, homeTrouble(home, errors.Join(err, lock.Close()))
	}
	return lock, nil
}

// homeTrouble adds to an error about a home directory what to try, where the system says why it is of no use.
func homeTrouble(home string, err error) error {
	advice := ""
	switch {
	case errors.Is(err, fs.ErrPermission):
		advice = "this user may not write there; run the command as the user to whom it belongs, or name a directory of your own with --home"
	case errors.Is(err, syscall.ENOSPC):
		advice = "the disk is full; make room, or name a directory on another disk with --home"
	case errors.Is(err, syscall.EROFS):
		advice = "nothing can be written to that disk; name a directory on another one with --home"
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrExist), errors.Is(err, syscall.ENOTDIR):
		advice = "there is no such directory, and none can be there; name another one with --home"
	default:
		return err // says itself what to do, or nobody knows
	}
	return fmt.Errorf("the home directory %s: %s: %w", home, advice, err)
}

// upgrade takes step after step and notes each when it is done. The home is locked.
func upgrade(home string, steps []step) error {
	at, err := readVersion(home)
	if err != nil {
		return err
	}
	if at > len(steps) {
		return tooNew(home, at, len(steps))
	}
	for ; at < len(steps); at++ {
		if err := steps[at](home); err != nil {
			return fmt.Errorf("bring %s from version %d to %d: %w", home, at, at+1, err)
		}
		if err := durable.WriteFile(filepath.Join(home, versionFile), fmt.Appendln(nil, at+1), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// readVersion is the version of a home directory.
func readVersion(home string) (int, error) {
	path := filepath.Join(home, versionFile)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	v, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil || v < 0 {
		return 0, fmt.Errorf("%s is damaged: it should have a number, such as %d; if no later version of swarmnode was used with this directory, remove the file", path, len(steps()))
	}
	return v, nil
}
