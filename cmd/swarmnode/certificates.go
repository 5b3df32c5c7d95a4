package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
)

// tlsPairs checks the certificates that a file names: each with its key, and both there. What may not be read by who asks is left to
// the node. A variable may have what is missing.
func (a *app) tlsPairs(file *configFile, settings []setting) (problems []problem) {
	pairs := map[string]map[string]setting{} // by table, then flag
	for _, s := range settings {
		if s.key != "tls-cert" && s.key != "tls-key" {
			continue
		}
		if pairs[s.table] == nil {
			pairs[s.table] = map[string]setting{}
		}
		pairs[s.table][s.key] = s
	}
	for table, pair := range pairs {
		file1, line1 := a.pairFile(table, "tls-cert", pair)
		file2, line2 := a.pairFile(table, "tls-key", pair)
		wrong := func(format string, args ...any) {
			problems = append(problems, problem{file.path, max(line1, line2), fmt.Sprintf(format, args...)})
		}
		if (file1 == "") != (file2 == "") {
			wrong("tls-cert and tls-key go together: give both files")
			continue
		}
		if file1 == "" {
			continue
		}
		if _, err := tls.LoadX509KeyPair(file1, file2); err != nil && !errors.Is(err, fs.ErrPermission) {
			wrong("tls-cert and tls-key: %v", err)
		}
	}
	return problems
}

// pairFile gives the file that one half of a pair names, and its line; 0 for one of the environment.
func (a *app) pairFile(table, flag string, pair map[string]setting) (path string, line int) {
	for _, name := range []string{envName(table, flag), envName("", flag)} {
		if path, _ := a.env(name); path != "" {
			return path, 0
		}
	}
	path, _ = pair[flag].value.(string)
	return path, pair[flag].line
}
