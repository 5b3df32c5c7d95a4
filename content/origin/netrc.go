package origin

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxNetrc is how long a .netrc may be: 10,000 hosts.
const maxNetrc = 1 << 20

// netrcLookup gives the user and password for a host from a file such as ftp and curl read, .netrc: that named, else the one in the
// home directory, if it is there. Both are "" if nothing in it is for the host.
func netrcLookup(file, host string) (user, password string, err error) {
	named := file != ""
	if !named {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", "", nil // a service may have none
		}
		file = filepath.Join(home, ".netrc")
	}
	info, err := os.Stat(file)
	switch {
	case !named && errors.Is(err, fs.ErrNotExist):
		return "", "", nil
	case err == nil && info.Size() > maxNetrc:
		err = fmt.Errorf("has %d bytes, at most %d are read", info.Size(), maxNetrc)
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(file)
	}
	if err == nil {
		user, password, err = parseNetrc(string(text), host)
	}
	if err != nil {
		return "", "", &RefusedError{Reason: "passwords from " + file, Cause: err}
	}
	return user, password, nil
}

// parseNetrc reads "machine HOST login USER password PASSWORD", in any number of lines; "default" is for all other hosts. Macros are passed over.
func parseNetrc(text, host string) (user, password string, err error) {
	words, err := netrcWords(text)
	if err != nil {
		return "", "", err
	}
	here := false
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		if word == "default" {
			if here {
				return user, password, nil
			}
			here = true
			continue
		}
		if len(words) == 0 {
			return "", "", fmt.Errorf("nothing follows %q", netrcSafe(word))
		}
		value := words[0]
		words = words[1:]
		switch word {
		case "machine":
			if here {
				return user, password, nil
			}
			here = strings.EqualFold(value, host)
		case "login", "password", "account":
			if here && word == "login" {
				user = value
			} else if here && word == "password" {
				password = value
			}
		default:
			return "", "", fmt.Errorf("%q is not a word of such a file: machine, default, login, password", netrcSafe(word))
		}
	}
	return user, password, nil
}

// netrcSafe keeps a password that stands in the wrong place out of an error.
func netrcSafe(word string) string {
	switch word {
	case "machine", "login", "password", "account":
		return word
	}
	return word[:min(len(word), 2)] + "…"
}

// netrcWords splits at white space; a word in double quotes may have some in it, and \" and \\. What follows macdef is left out up to
// the next empty line, what follows # up to the end of the line, if it is the first on it.
func netrcWords(text string) (words []string, err error) {
	macro := false
	for number, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if macro || strings.HasPrefix(line, "#") {
			macro = macro && line != ""
			continue
		}
		for line != "" {
			word, rest, ok := netrcWord(line)
			if !ok {
				return nil, fmt.Errorf("line %d: a quote that does not end", number+1)
			}
			if word == "macdef" {
				macro = true
				break
			}
			words, line = append(words, word), strings.TrimLeft(rest, " \t")
		}
	}
	return words, nil
}

// netrcWord takes the first word.
func netrcWord(line string) (word, rest string, ok bool) {
	if line[0] != '"' {
		end := strings.IndexAny(line, " \t")
		if end < 0 {
			end = len(line)
		}
		return line[:end], line[end:], true
	}
	var b strings.Builder
	for i := 1; i < len(line); i++ {
		switch {
		case line[i] == '"':
			return b.String(), line[i+1:], true
		case line[i] == '\\' && i+1 < len(line):
			i++
		}
		b.WriteByte(line[i])
	}
	return "", "", false
}
