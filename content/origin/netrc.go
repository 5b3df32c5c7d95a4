package origin

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// maxNetrc is how long a file with passwords may be: thousands of machines.
const maxNetrc = 1 << 20

// login gives the user name and password for an origin: those of the URL, what it lacks from the netrc file, else nil.
func login(o Options, u *url.URL) (*url.Userinfo, error) {
	if _, has := u.User.Password(); has {
		return u.User, nil
	}
	name, asked := o.Netrc, o.Netrc != ""
	if !asked {
		home, err := os.UserHomeDir()
		if err != nil {
			return u.User, nil
		}
		name = filepath.Join(home, ".netrc")
	}
	data, err := os.ReadFile(name)
	switch {
	case !asked && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)):
		return u.User, nil
	case err != nil:
		return nil, fmt.Errorf("user names and passwords: %w", err)
	case len(data) > maxNetrc:
		return nil, &RefusedError{Reason: fmt.Sprintf("%s is longer than %d bytes: is it a netrc file?", name, maxNetrc)}
	}
	if user := parseNetrc(string(data), u.Hostname(), u.User.Username()); user != nil {
		return user, nil
	}
	return u.User, nil
}

// parseNetrc finds the login of a machine, for a user if that is not "", as in netrc(5): the first that fits, "default" fits all.
// Words are set apart by blanks; a password with a blank in it cannot be told. Macros are skipped.
func parseNetrc(data, host, user string) *url.Userinfo {
	var (
		fits           bool
		name, password string
		words          []string
	)
	inMacro := false
	for line := range strings.SplitSeq(data, "\n") {
		fields := strings.Fields(line)
		if inMacro = inMacro && len(fields) > 0; inMacro {
			continue
		}
		for i, f := range fields {
			if f == "macdef" {
				inMacro = true
				fields = fields[:i]
				break
			}
			if strings.HasPrefix(f, "#") && (i == 0 || len(words)%2 == 0 && fields[i-1] != "password") {
				fields = fields[:i]
				break
			}
		}
		words = append(words, fields...)
	}
	done := func() bool { return fits && name != "" && (user == "" || name == user) }
	for i := 0; i < len(words); i++ {
		next := ""
		if i+1 < len(words) {
			next = words[i+1]
		}
		switch words[i] {
		case "machine", "default":
			if done() {
				return url.UserPassword(name, password)
			}
			fits, name, password = words[i] == "default" || strings.EqualFold(next, host), user, ""
			if words[i] == "machine" {
				i++
			}
		case "login":
			name = next
			i++
		case "password":
			password = next
			i++
		case "account":
			i++
		}
	}
	if done() {
		return url.UserPassword(name, password)
	}
	return nil
}
