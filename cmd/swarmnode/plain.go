package main

import (
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"
)

// plain is a terminal that takes no orders: names of collections and files, addresses and the words of other nodes come from strangers.
// What moves the cursor, hides text or turns its direction round is shown as a replacement character. Others than terminals get every
// byte as it is.
type plain struct{ out io.Writer }

// plainly gives what to write on: a plain if out is a terminal.
func plainly(out io.Writer) io.Writer {
	if isTerminal(out) {
		return plain{out}
	}
	return out
}

func isTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}

// Write writes whole lines or cells, never half a character.
func (p plain) Write(b []byte) (int, error) {
	if _, err := io.WriteString(p.out, harmless(string(b))); err != nil {
		return 0, err
	}
	return len(b), nil
}

// harmless replaces what orders a terminal about.
func harmless(text string) string {
	if strings.IndexFunc(text, orders) < 0 && utf8.ValidString(text) {
		return text
	}
	return strings.Map(func(r rune) rune {
		if orders(r) {
			return utf8.RuneError
		}
		return r
	}, text)
}

// orders reports whether a character is an order to a terminal: a control character, or one of Unicode's that turn the direction
// of text round (UAX #9, section 2). Bytes that are no UTF-8 may be one of eight bits; ranging over a string makes them RuneError.
func orders(r rune) bool {
	return unicode.IsControl(r) && r != '\n' && r != '\t' || unicode.Is(unicode.Bidi_Control, r)
}
