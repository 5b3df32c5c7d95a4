// Package cmd_test holds the fences of the house as a test: who may import whom, which packages are pure, how long
// things may grow. Each finding says the place, the rule and what to do. What the rules are for is in the design:
// a newcomer finds a journey in the order told, and the simulator runs the decisions that the node runs.
package cmd_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	module = "swarmnode"

	// The lengths at which a reader loses the thread. Tests and tables in them may be longer.
	maxFileLines     = 500
	maxFunctionLines = 70
	maxStructFields  = 15
)

// layers says for each package which of our own it may import. A package that is not here is a finding: its place has
// to be decided, and written down here.
var layers = func() map[string][]string {
	contents := []string{"content", "content/guard", "content/chunker", "content/durable", "content/store", "content/origin"}
	below := append([]string{"gossip", "gossip/trust", "gossip/topic", "node/policy", "node/spool"}, contents...)
	services := []string{"node/p2p", "node/limit", "node/fetch", "node/mirror", "node/publish", "node/trigger", "node/export", "node/gateway", "node/dns", "node/control"}
	rules := map[string][]string{
		"content":                 {"content/guard"},
		"content/guard":           {},
		"content/chunker":         {"content"},
		"content/durable":         {"content/guard"},
		"content/durable/faulty":  {"content/durable"},
		"content/store":           {"content", "content/guard", "content/durable"},
		"content/store/storetest": {"content", "content/store"},
		"content/origin":          {"content"},
		"gossip":                  {"content", "content/guard"},
		"gossip/trust":            {"gossip", "content", "content/guard", "content/durable"},
		"gossip/topic":            {"gossip", "content", "content/guard"},
		"node/policy":             {"gossip", "content", "content/guard"},
		"node/spool":              {},
		"sim":                     {"node/policy", "gossip", "content"},
		"node":                    slices.Concat(services, below),
		"cmd":                     {},
		"cmd/swarmnode":           slices.Concat([]string{"node", "sim"}, services, below),
	}
	for _, s := range services {
		rules[s] = below
	}
	return rules
}()

// fenced names the modules that only some packages may import, so that the choice can be changed in one place.
var fenced = []struct {
	prefix, why string
	only        []string
}{
	{"github.com/theupdateframework/go-tuf", "its panics and caps are handled in one place", []string{"gossip/trust"}},
	{"github.com/libp2p/", "everything else meets the network through methods of these two", []string{"node/p2p", "gossip/topic"}},
	{"github.com/multiformats/go-multiaddr", "addresses are strings everywhere else", []string{"node/p2p", "gossip/topic"}},
}

// pure are the packages in which now and *rand.Rand come in as arguments.
var pure = []string{"content", "content/chunker", "gossip", "node/policy", "sim"}

// impure are the imports that read or change the world outside the arguments.
var impure = []string{"os", "os/exec", "os/signal", "os/user", "net", "net/http", "syscall", "crypto/rand", "runtime/debug",
	"context", "log", "golang.org/x/sys/unix"}

// clock are the functions of package time that read the clock or wait for it.
var clock = []string{"Now", "Since", "Until", "After", "AfterFunc", "Sleep", "NewTimer", "NewTicker", "Tick"}

// ownRand are the functions of math/rand and math/rand/v2 that make a source of one's own; all others are global.
var ownRand = []string{"New", "NewSource", "NewZipf", "NewPCG", "NewChaCha8"}

// constantCalls are the calls whose result nobody can change, so a package variable may hold it.
var constantCalls = []string{"errors.New", "fmt.Errorf", "regexp.MustCompile", "time.Date", "time.Unix", "strings.NewReplacer", "crc32.MakeTable", "must", "Must", "mustParse"}

var (
	badNames  = []string{"util", "utils", "common", "base", "manager", "helper", "helpers"}
	topLevel  = []string{"cmd", "node", "content", "gossip", "sim", "go.mod", "go.sum", "README.md"}
	skipFiles = []string{"testdata"}
)

func TestTidy(t *testing.T) {
	root := ".."
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatalf("the module is not in the directory above this test: %v", err)
	}
	found, err := checkTop(root)
	if err != nil {
		t.Fatal(err)
	}
	sources, err := readModule(root)
	if err != nil {
		t.Fatal(err)
	}
	for dir, files := range sources {
		found = append(found, check(dir, files)...)
	}
	slices.Sort(found)
	for _, f := range found {
		t.Error(f)
	}
}

// checkTop looks at the top-level directory, where a newcomer looks first.
func checkTop(root string) (found []string, err error) {
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, err
	}
	ignored, _ := os.ReadFile(filepath.Join(root, ".gitignore"))
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") || slices.Contains(topLevel, name) || slices.Contains(strings.Fields(string(ignored)), "/"+name) {
			continue
		}
		found = append(found, fmt.Sprintf("%s: at the top there are only %s and dot-files: find it a place below them", name, strings.Join(topLevel, ", ")))
	}
	return found, nil
}

// readModule reads every Go file: directory -> file path -> source. Build constraints are not looked at.
func readModule(root string) (map[string]map[string]string, error) {
	sources := map[string]map[string]string{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if p != root && (slices.Contains(skipFiles, d.Name()) || strings.HasPrefix(d.Name(), ".") || strings.HasPrefix(d.Name(), "_")) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		src, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		dir := path.Dir(rel)
		if sources[dir] == nil {
			sources[dir] = map[string]string{}
		}
		sources[dir][rel] = string(src)
		return nil
	})
	return sources, err
}

// unit is one package while it is looked at: its files without the tests, and what each identifier stands for.
type unit struct {
	dir   string
	fset  *token.FileSet
	files []*ast.File
	info  *types.Info
	pkg   *types.Package
	found []string
}

func (u *unit) report(pos token.Pos, format string, args ...any) {
	p := u.fset.Position(pos)
	u.found = append(u.found, fmt.Sprintf("%s:%d: %s", p.Filename, p.Line, fmt.Sprintf(format, args...)))
}

// check gives the findings in one package directory.
func check(dir string, sources map[string]string) []string {
	u := &unit{dir: dir, fset: token.NewFileSet(), info: &types.Info{Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}}}
	for name, src := range sources {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(u.fset, name, src, parser.SkipObjectResolution)
		if err != nil {
			return []string{err.Error()}
		}
		u.files = append(u.files, f)
	}
	if len(u.files) == 0 {
		return nil
	}
	// The imports are empty packages and most types stay unknown; all that is wanted is which declaration a name means.
	config := types.Config{Importer: emptyPackages{}, Error: func(error) {}, DisableUnusedImportCheck: true}
	u.pkg, _ = config.Check(dir, u.fset, u.files, u.info)
	for _, f := range u.files {
		u.names(f)
		u.imports(f)
		u.lengths(f)
		if slices.Contains(pure, dir) {
			u.purity(f)
		}
	}
	if slices.Contains(pure, dir) {
		u.globals()
	}
	return u.found
}

// emptyPackages answers every import with a package that has the right name and nothing in it.
type emptyPackages struct{}

func (emptyPackages) Import(p string) (*types.Package, error) {
	name := path.Base(p)
	if len(name) > 1 && name[0] == 'v' && strings.Trim(name[1:], "0123456789") == "" {
		name = path.Base(path.Dir(p))
	}
	pkg := types.NewPackage(p, strings.TrimPrefix(name, "go-"))
	pkg.MarkComplete()
	return pkg, nil
}

func (u *unit) names(f *ast.File) {
	for _, part := range append(strings.Split(u.dir, "/"), f.Name.Name) {
		if slices.Contains(badNames, part) {
			u.report(f.Name.Pos(), "package %s: the name %q says nothing: name it by what it is for", u.dir, part)
			return
		}
	}
}

func (u *unit) imports(f *ast.File) {
	allowed, known := layers[u.dir]
	if !known {
		u.report(f.Name.Pos(), "package %s has no layer: decide what it may import and add it to layers in cmd/tidy_test.go", u.dir)
		return
	}
	for _, spec := range f.Imports {
		p := strings.Trim(spec.Path.Value, `"`)
		if own, ok := strings.CutPrefix(p, module+"/"); ok && !slices.Contains(allowed, own) {
			may := strings.Join(allowed, ", ")
			if may == "" {
				may = "nothing of ours"
			}
			u.report(spec.Pos(), "%s imports %s: imports go down only and siblings never meet; %s may import %s", u.dir, own, u.dir, may)
		}
		for _, fence := range fenced {
			if strings.HasPrefix(p, fence.prefix) && !slices.Contains(fence.only, u.dir) {
				u.report(spec.Pos(), "%s imports %s: only %s may, %s", u.dir, p, strings.Join(fence.only, " and "), fence.why)
			}
		}
		if slices.Contains(pure, u.dir) && slices.Contains(impure, p) {
			u.report(spec.Pos(), "%s is pure and imports %s: let its caller hand in what it needs", u.dir, p)
		}
	}
}

func (u *unit) lengths(f *ast.File) {
	if n := u.fset.File(f.Pos()).LineCount(); n > maxFileLines {
		u.report(f.Pos(), "file of %d lines, at most %d: split it by event or question", n, maxFileLines)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if lines := u.fset.Position(n.End()).Line - u.fset.Position(n.Pos()).Line + 1; lines > maxFunctionLines {
				u.report(n.Pos(), "function %s of %d lines, at most %d: split it by question", n.Name.Name, lines, maxFunctionLines)
			}
			if n.Recv == nil && n.Name.Name == "init" {
				u.report(n.Pos(), "init function: what runs at start is called from main, where it can be read")
			}
		case *ast.StructType:
			if fields := n.Fields.NumFields(); fields > maxStructFields {
				u.report(n.Pos(), "struct of %d fields, at most %d: group what changes together", fields, maxStructFields)
			}
		}
		return true
	})
}

// purity finds what reads a clock or a global source of chance, and what starts a goroutine.
func (u *unit) purity(f *ast.File) {
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			u.report(n.Pos(), "%s is pure and starts a goroutine: leave that to its driver", u.dir)
		case *ast.SelectorExpr:
			id, ok := n.X.(*ast.Ident)
			if !ok {
				return true
			}
			name, ok := u.info.Uses[id].(*types.PkgName)
			if !ok {
				return true
			}
			switch p := name.Imported().Path(); {
			case p == "time" && slices.Contains(clock, n.Sel.Name):
				u.report(n.Pos(), "%s is pure and calls time.%s: take now as an argument", u.dir, n.Sel.Name)
			case (p == "math/rand" || p == "math/rand/v2") && ast.IsExported(n.Sel.Name) && !slices.Contains(ownRand, n.Sel.Name) && !isRandType(n.Sel.Name):
				u.report(n.Pos(), "%s is pure and uses the global rand.%s: take a *rand.Rand", u.dir, n.Sel.Name)
			}
		}
		return true
	})
}

func isRandType(name string) bool {
	return slices.Contains([]string{"Rand", "Source", "Source64", "Zipf", "PCG", "ChaCha8"}, name)
}

// globals finds package variables of a pure package that can change: those whose first value is not of a kind
// that stays as it is, and those that something in the package writes to.
func (u *unit) globals() {
	for _, f := range u.files {
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, s := range g.Specs {
				spec := s.(*ast.ValueSpec)
				for i, name := range spec.Names {
					one := len(spec.Values) == len(spec.Names)
					if name.Name != "_" && (!one || !constant(spec.Values[i])) {
						u.report(name.Pos(), "%s is pure and its package variable %s can change: make it a constant, a function or a field", u.dir, name.Name)
					}
				}
			}
		}
		ast.Inspect(f, u.writes)
	}
}

// constant reports whether a package variable with this value needs only not to be written to: sentinel errors, patterns,
// encoders made once, functions, and tables in the form of a literal.
func constant(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.BasicLit, *ast.FuncLit:
		return true
	case *ast.CompositeLit:
		switch t := e.Type.(type) {
		case *ast.MapType, *ast.ArrayType:
			return true
		case *ast.SelectorExpr: // a struct of another package may hold a lock or a cache
			return false
		default:
			return t != nil // a struct or table type of this package, by value
		}
	case *ast.CallExpr:
		if f, ok := e.Fun.(*ast.FuncLit); ok { // a table that is computed once
			return f != nil
		}
		return slices.Contains(constantCalls, strings.TrimSpace(types.ExprString(e.Fun)))
	}
	return false
}

// writes reports n if it changes a package variable, a part of one, or makes that possible by taking its address.
func (u *unit) writes(n ast.Node) bool {
	var targets []ast.Expr
	switch n := n.(type) {
	case *ast.AssignStmt:
		if n.Tok != token.DEFINE {
			targets = n.Lhs
		}
	case *ast.IncDecStmt:
		targets = []ast.Expr{n.X}
	case *ast.UnaryExpr:
		if n.Op == token.AND {
			targets = []ast.Expr{n.X}
		}
	case *ast.CallExpr:
		if f, ok := n.Fun.(*ast.Ident); ok && slices.Contains([]string{"delete", "clear", "copy"}, f.Name) && len(n.Args) > 0 {
			targets = n.Args[:1]
		}
	}
	for _, t := range targets {
		if id := base(t); id != nil {
			if v, ok := u.info.Uses[id].(*types.Var); ok && u.pkg != nil && v.Parent() == u.pkg.Scope() {
				u.report(n.Pos(), "%s is pure and writes to its package variable %s: make it a field of what uses it", u.dir, id.Name)
			}
		}
	}
	return true
}

// base is the variable that an expression like table[i].field is a part of.
func base(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.IndexExpr:
			e = x.X
		case *ast.SliceExpr:
			e = x.X
		case *ast.SelectorExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		default:
			return nil
		}
	}
}

func TestTidyCatches(t *testing.T) {
	long := "package gossip\n\nfunc f() {\n" + strings.Repeat("\tg()\n", maxFunctionLines-1) + "}\n"
	cases := []struct{ name, dir, src, want string }{
		{"upward", "gossip", "package gossip\nimport _ \"swarmnode/node\"", "imports go down only"},
		{"upward to cmd", "node", "package node\nimport _ \"swarmnode/cmd/swarmnode\"", "imports go down only"},
		{"siblings", "node/fetch", "package fetch\nimport _ \"swarmnode/node/p2p\"", "siblings never meet"},
		{"siblings below", "content/store", "package store\nimport _ \"swarmnode/content/chunker\"", "may import content"},
		{"trust and topic", "gossip/trust", "package trust\nimport _ \"swarmnode/gossip/topic\"", "may import gossip, content"},
		{"sim and a service", "sim", "package sim\nimport _ \"swarmnode/node/fetch\"", "imports node/fetch"},
		{"no layer", "node/cache", "package cache", "has no layer"},
		{"tuf", "node/publish", "package publish\nimport _ \"github.com/theupdateframework/go-tuf/v2/metadata\"", "only gossip/trust may"},
		{"libp2p", "node/mirror", "package mirror\nimport _ \"github.com/libp2p/go-libp2p/core/host\"", "only node/p2p and gossip/topic may"},
		{"multiaddr", "gossip", "package gossip\nimport _ \"github.com/multiformats/go-multiaddr\"", "only node/p2p and gossip/topic may"},
		{"goroutine", "sim", "package sim\nfunc f() { go f() }", "starts a goroutine"},
		{"clock", "gossip", "package gossip\nimport \"time\"\nvar x = 1\nfunc f() { _ = time.Now() }", "calls time.Now"},
		{"clock by another name", "gossip", "package gossip\nimport t \"time\"\nfunc f() { t.Sleep(1) }", "calls time.Sleep"},
		{"clock as a value", "gossip", "package gossip\nimport \"time\"\nfunc f() func() time.Time { return time.Now }", "calls time.Now"},
		{"os", "content", "package content\nimport \"os\"\nfunc f() { os.Getenv(\"\") }", "imports os"},
		{"net", "node/policy", "package policy\nimport _ \"net\"", "imports net"},
		{"global rand", "node/policy", "package policy\nimport \"math/rand/v2\"\nfunc f() int { return rand.IntN(3) }", "global rand.IntN"},
		{"changing variable", "gossip", "package gossip\nvar count int\n", "count can change"},
		{"lock", "gossip", "package gossip\nimport \"sync\"\nvar mu = sync.Mutex{}\n", "mu can change"},
		{"pointer", "gossip", "package gossip\ntype c struct{}\nvar cache = &c{}\n", "cache can change"},
		{"written table", "gossip", "package gossip\nvar t = map[int]int{}\nfunc f() { t[1] = 2 }", "writes to its package variable t"},
		{"written field", "gossip", "package gossip\nvar t = struct{n int}{}\nfunc f() { t.n++ }", "writes to its package variable t"},
		{"address", "gossip", "package gossip\nvar n = 1\nfunc f() *int { return &n }", "writes to its package variable n"},
		{"delete", "gossip", "package gossip\nvar t = map[int]int{}\nfunc f() { delete(t, 1) }", "writes to its package variable t"},
		{"long file", "gossip", "package gossip\n" + strings.Repeat("\n", maxFileLines), "file of 501 lines, at most 500"},
		{"long function", "gossip", long, "function f of 71 lines, at most 70"},
		{"wide struct", "gossip", "package gossip\ntype s struct { a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p int }", "struct of 16 fields, at most 15"},
		{"init", "node", "package node\nfunc init() {}", "init function"},
		{"name", "gossip", "package util", `"util" says nothing`},
		{"directory", "node/helper", "package tools", `"helper" says nothing`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := check(c.dir, map[string]string{c.dir + "/x.go": c.src})
			if !slices.ContainsFunc(got, func(f string) bool { return strings.Contains(f, c.want) }) {
				t.Errorf("got %q, want a finding with %q", got, c.want)
			}
			if got := check(c.dir, map[string]string{c.dir + "/x_test.go": c.src}); len(got) > 0 {
				t.Errorf("in a test file: got %q, want none", got)
			}
		})
	}
}

func TestTidyLetsPass(t *testing.T) {
	cases := []struct{ name, dir, src string }{
		{"service", "node/publish", "package publish\nimport (\n_ \"swarmnode/content/chunker\"\n_ \"swarmnode/gossip/trust\"\n_ \"swarmnode/node/policy\")"},
		{"command", "cmd/swarmnode", "package main\nimport (\n_ \"swarmnode/node\"\n_ \"swarmnode/sim\")"},
		{"own rand", "sim", "package sim\nimport \"math/rand/v2\"\nfunc f(r *rand.Rand) int { return rand.New(rand.NewPCG(1, 2)).IntN(r.IntN(3)) }"},
		{"times", "gossip", "package gossip\nimport \"time\"\nconst d = 3 * time.Second\nfunc f(now time.Time) time.Time { return now.Add(d) }"},
		{"a field named like the clock", "gossip", "package gossip\ntype c struct{ Now int }\nfunc f(time c) int { return time.Now }"},
		{"sentinels and tables", "gossip", "package gossip\nimport (\n\"errors\"\n\"regexp\")\nvar ErrOld = errors.New(\"old\")\nvar re = regexp.MustCompile(`a`)\n" +
			"var kinds = map[string]int{\"a\": 1}\nvar mode = must(1, nil)\nvar now = func() int { return 1 }\n"},
		{"shadow", "gossip", "package gossip\nvar n = 1\nfunc f() { n := 2; n++; _ = n }"},
		{"interface check", "gossip", "package gossip\ntype i interface{}\nvar _ i = (*int)(nil)"},
		{"impure package", "node/fetch", "package fetch\nimport \"time\"\nvar n int\nfunc f() { n++; go f(); _ = time.Now() }"},
		{"just short enough", "gossip", "package gossip\nfunc f() {" + strings.Repeat("\n", maxFunctionLines-1) + "}"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := check(c.dir, map[string]string{c.dir + "/x.go": c.src}); len(got) > 0 {
				t.Errorf("got %q, want none", got)
			}
		})
	}
}
