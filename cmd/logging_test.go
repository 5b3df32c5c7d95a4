package cmd_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// keysOfRecords are those of each record in JSON; a fact under one of them would be a second one there.
var keysOfRecords = []string{"time", "level", "msg", "lost_before"}

// otherNames are keys under which a fact is not found by who reads the list of `swarmnode logs --help`.
var otherNames = map[string]string{"err": "error", "reason": "error", "cause": "error", "id": "collection or peer", "addr": "address"}

// logging finds what is wrong with calls of a logger in the source of a file: a warning that does not say after a colon what to do, and
// facts under other keys than those that are documented.
func logging(t *testing.T, name, source string) (found []string) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, name, source, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) == 0 {
			return true
		}
		method, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || !slices.Contains([]string{"Debug", "Info", "Warn", "Error"}, method.Sel.Name) || !isLogger(method.X) {
			return true
		}
		at := fset.Position(call.Pos()).String()
		texts := literals(call.Args)
		if grave := method.Sel.Name == "Warn" || method.Sel.Name == "Error"; grave && texts[0] != "" && !strings.Contains(texts[0], ": ") {
			found = append(found, at+": "+strconv.Quote(texts[0])+" does not say after a colon what to do, or that nothing is to be done")
		}
		for i := 1; i < len(texts); i += 2 {
			if slices.Contains(keysOfRecords, texts[i]) {
				found = append(found, at+": the key "+texts[i]+" is one of each record")
			}
			if better := otherNames[texts[i]]; better != "" {
				found = append(found, at+": the key "+texts[i]+": say "+better)
			}
		}
		return true
	})
	return found
}

// isLogger reports whether an expression is called like a logger.
func isLogger(x ast.Expr) bool {
	switch x := x.(type) {
	case *ast.Ident:
		return x.Name == "log"
	case *ast.SelectorExpr:
		return strings.EqualFold(x.Sel.Name, "log")
	case *ast.CallExpr: // a.log(), log.With("key", value)
		if f, ok := x.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "With" {
			return isLogger(f.X)
		}
		return isLogger(x.Fun)
	}
	return false
}

// literals gives the arguments that are written out; "" for the others.
func literals(args []ast.Expr) []string {
	texts := make([]string, len(args))
	for i, a := range args {
		if lit, ok := a.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if text, err := strconv.Unquote(lit.Value); err == nil {
				texts[i] = text
			}
		}
	}
	return texts
}

// Each warning says what to do, and the same fact has the same key everywhere.
func TestLogging(t *testing.T) {
	sources, err := readModule("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, files := range sources {
		for name, source := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			for _, f := range logging(t, name, source) {
				t.Error(f)
			}
		}
	}
}

func TestLoggingCatches(t *testing.T) {
	for body, want := range map[string]string{
		`log.Warn("it broke")`:                                    "what to do",
		`n.log.Error("it broke", "collection", id)`:               "what to do",
		`x.cfg.Log.Warn("it broke: look at it", "err", err)`:      "say error",
		`a.log().Info("it goes on", "time", now)`:                 "one of each record",
		`n.log.With("collection", id).Debug("nothing to report")`: "",
		`n.log.Warn("it broke: look at it", "error", err)`:        "",
		`t.Error("it broke")`:                                     "",
	} {
		got := strings.Join(logging(t, "f.go", "package f\nfunc f() {"+body+"}"), "\n")
		if (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", body, got, want)
		}
	}
}
