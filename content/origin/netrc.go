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
// Macros are skipped.
func parseNetrc(data, host, user string) *url.Userinfo {
	var (
		fits           bool
		name, password string
	)
	done := func() bool { return fits && name != "" && (user == "" || name == user) }
	words := netrcWords(data)
	for i := 0; i < len(words); i++ {
		next := ""
		if i+1 < len(words) {
			next = words[i+1]
		}
		switch keyword := strings.ToLower(words[i]); keyword {
		case "machine", "default":
			if done() {
				return url.UserPassword(name, password)
			}
			fits, name, password = keyword == "default" || strings.EqualFold(next, host), user, ""
			if keyword == "machine" {
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

// netrcWords takes the words of the file, without comments and macros.
func netrcWords(data string) (words []string) {
	inMacro := false
	for line := range strings.SplitSeq(data, "\n") {
		if inMacro = inMacro && strings.TrimSpace(line) != ""; inMacro {
			continue
		}
		for first, last := true, ""; ; first = false {
			word, quoted, rest := netrcWord(line)
			if word == "" && !quoted {
				break
			}
			if !quoted && (strings.EqualFold(word, "macdef") || strings.HasPrefix(word, "#") && (first || len(words)%2 == 0 && last != "password")) {
				inMacro = word[0] != '#'
				break
			}
			words = append(words, word)
			line, last = rest, word
		}
	}
	return words
}

// netrcWord takes one word. One in quotes may have blanks, and \" \\ \n \r \t, as curl and wget have it; a quote without an end is one of
// the word.
func netrcWord(line string) (word string, quoted bool, rest string) {
	line = strings.TrimLeft(line, " \t\r\v\f")
	if strings.HasPrefix(line, `"`) {
		var b strings.Builder
		for i := 1; i < len(line); i++ {
			switch {
			case line[i] == '"':
				return b.String(), true, line[i+1:]
			case line[i] == '\\' && i+1 < len(line):
				i++
				if at := strings.IndexByte("nrt", line[i]); at >= 0 {
					b.WriteByte("\n\r\t"[at])
				} else {
					b.WriteByte(line[i])
				}
			default:
				b.WriteByte(line[i])
			}
		}
	}
	end := strings.IndexAny(line, " \t\r\v\f")
	if end < 0 {
		end = len(line)
	}
	return line[:end], false, line[end:]
}
