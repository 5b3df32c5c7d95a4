// Command gated lists the tests that do something else, or more, with SWARMNODE_E2E=1: a line "PACKAGE TEST TEST..." for each package
// below the current directory that has some. They are those whose code names the variable, and those that use anything of their
// package's tests whose code does, however far away. Names are compared as they are written, so a test may be listed that need
// not be; none can be forgotten.
package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// variable is what asks for the gate.
const variable = "SWARMNODE_E2E"

func main() {
	log.SetFlags(0)
	packages := map[string][]string{}
	err := filepath.WalkDir(".", func(path string, e fs.DirEntry, err error) error {
		if e != nil && e.IsDir() && (e.Name() == "testdata" || len(e.Name()) > 1 && e.Name()[0] == '.') {
			return filepath.SkipDir
		}
		if err == nil && strings.HasSuffix(path, "_test.go") {
			packages[filepath.Dir(path)] = append(packages[filepath.Dir(path)], path)
		}
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	found := false
	for _, dir := range sorted(packages) {
		tests, err := gated(packages[dir])
		if err != nil {
			log.Fatal(err)
		}
		if len(tests) > 0 {
			found = true
			fmt.Printf("./%s %s\n", filepath.ToSlash(dir), strings.Join(tests, " "))
		}
	}
	if !found {
		log.Println("no test asks for " + variable + ": is this the top of the repository?")
		os.Exit(1)
	}
}

func sorted(m map[string][]string) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// gated gives the tests of some files of one package that come to the variable.
func gated(files []string) ([]string, error) {
	uses := map[string]map[string]bool{} // by each name that is declared: what its code names
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			return nil, err
		}
		for _, d := range f.Decls {
			named := names(d)
			for _, n := range declared(d) {
				if uses[n] == nil {
					uses[n] = map[string]bool{}
				}
				for u := range named {
					uses[n][u] = true
				}
			}
		}
	}
	comes := map[string]bool{variable: true}
	for grown := true; grown; {
		grown = false
		for n, used := range uses {
			for u := range used {
				if comes[u] && !comes[n] {
					comes[n], grown = true, true
				}
			}
		}
	}
	var tests []string
	for n := range uses {
		if comes[n] && strings.HasPrefix(n, "Test") && n != "TestMain" {
			tests = append(tests, n)
		}
	}
	slices.Sort(tests)
	return tests, nil
}

// declared are the names that a declaration gives: of a method, its own.
func declared(d ast.Decl) (all []string) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		return []string{d.Name.Name}
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				all = append(all, s.Name.Name)
			case *ast.ValueSpec:
				for _, n := range s.Names {
					all = append(all, n.Name)
				}
			}
		}
	}
	return all
}

// names are the identifiers in a declaration, and the variable if its name stands in a string.
func names(d ast.Decl) map[string]bool {
	all := map[string]bool{}
	ast.Inspect(d, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Ident:
			all[n.Name] = true
		case *ast.BasicLit:
			if n.Kind == token.STRING && strings.Contains(n.Value, variable) {
				all[variable] = true
			}
		}
		return true
	})
	return all
}
