package main

import (
	"fmt"
	"net/netip"
	"os"
	"strings"

	"swarmnode/content"
)

// target is what a person names on the command line: a collection, or a path in it.
type target struct {
	id   content.ID
	path string // "" for all of it
}

func (t target) String() string {
	if t.path == "" {
		return t.id.String()
	}
	return t.id.String() + "/" + t.path
}

// parseTarget reads ID or ID/path.
func parseTarget(s string) (target, error) {
	text, path, _ := strings.Cut(s, "/")
	id, err := content.ParseID(text)
	if err != nil {
		return target{}, misuse("%q is not the ID of a collection: an ID is a long word like bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku, which `swarmnode publish` "+
			"prints; write ID or ID/path", text)
	}
	path = content.CleanDir(path)
	if path != "" {
		if err := content.CheckPath(path); err != nil {
			return target{}, misuse("%q: %v", s, err)
		}
	}
	return target{id, path}, nil
}

// addressExample is how the address of a node looks.
const addressExample = "/ip4/203.0.113.7/tcp/4101/p2p/12D3KooW…"

// checkAddrs refuses what cannot be the address of a node. The finer points are checked where it is used.
func checkAddrs(addrs []string) error {
	for _, a := range addrs {
		if !strings.HasPrefix(a, "/") || !strings.Contains(a, "/p2p/") {
			return misuse("--bootstrap %q is not the address of a node: copy it whole from what `swarmnode publish` or `swarmnode status` prints there, "+
				"it looks like "+addressExample, a)
		}
	}
	return nil
}

// bestAddr is the address to tell others: one that is not only good on this machine, if there is one, and TCP before
// others, which need more processor time. "" if there is none.
func bestAddr(addrs []string) string {
	best, score := "", -1
	for _, a := range addrs {
		s := 0
		if ip := addrIP(a); ip.IsValid() && !ip.IsLoopback() {
			s = 4
			if ip.Is6() {
				s = 2
			}
		}
		if strings.Contains(a, "/tcp/") {
			s++
		}
		if s > score {
			best, score = a, s
		}
	}
	return best
}

// addrIP is the IP address in the address of a node; not valid if there is a name or a relay instead.
func addrIP(addr string) netip.Addr {
	parts := strings.Split(addr, "/")
	if len(parts) < 3 || strings.Contains(addr, "/p2p-circuit") {
		return netip.Addr{}
	}
	ip, err := netip.ParseAddr(parts[2])
	if err != nil {
		return netip.Addr{}
	}
	return ip
}

// quote writes a path so that a shell takes it as one word.
func quote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=@%+,") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// checkDir refuses what is not a directory before anything else is done.
func checkDir(dir string) error {
	st, err := os.Stat(dir)
	switch {
	case os.IsNotExist(err):
		return fmt.Errorf("there is no directory %s", dir)
	case err != nil:
		return err
	case !st.IsDir():
		return fmt.Errorf("%s is a file, not a directory", dir)
	}
	return nil
}
