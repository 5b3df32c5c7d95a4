package origin

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	// maxLine is how long a line of an apt index may be: the longest of Debian's have 40 KB.
	maxLine = 1 << 20
	// maxStanza is how many bytes of the fields that are wanted one paragraph may have: Release files name 10,000 others.
	maxStanza = 16 << 20
)

// readStanzas reads paragraphs of fields as dpkg and apt write them (deb-control(5)) and calls each with those of the fields in want,
// which are in lower case; the map is used again for the next one. The lines of a value that goes on are separated by line feeds.
// What a field of another name holds does not matter. A wanted field that is there twice is refused: readers would disagree.
func readStanzas(r io.Reader, want []string, each func(map[string]string) error) error {
	s := stanzas{fields: map[string]string{}, value: bufio.NewScanner(r)}
	s.value.Buffer(make([]byte, 0, 64<<10), maxLine)
	number := 0
	for s.value.Scan() {
		number++
		line := bytes.TrimSuffix(s.value.Bytes(), []byte{'\r'})
		var err error
		switch {
		case len(line) == 0:
			err = s.end(each)
		case line[0] == '#':
		case line[0] == ' ' || line[0] == '\t':
			err = s.more(line)
		default:
			err = s.field(line, want)
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
	}
	if err := s.value.Err(); errors.Is(err, bufio.ErrTooLong) {
		return fmt.Errorf("line %d has more than %d bytes", number+1, maxLine)
	} else if err != nil {
		return err
	}
	return s.end(each)
}

// stanzas is the state of readStanzas.
type stanzas struct {
	value  *bufio.Scanner
	fields map[string]string
	any    bool            // something of the paragraph has been read
	size   int             // bytes of wanted values
	name   string          // of the field that goes on; "" if it is not wanted
	long   strings.Builder // its value, if it has several lines
}

// field begins a field.
func (s *stanzas) field(line []byte, want []string) error {
	s.finish()
	name, value, ok := bytes.Cut(line, []byte{':'})
	if !ok || len(name) == 0 {
		return fmt.Errorf("%.80q is neither a field nor the continuation of one", line)
	}
	s.any = true
	for _, w := range want {
		if len(w) != len(name) || !strings.EqualFold(w, string(name)) {
			continue
		}
		if _, twice := s.fields[w]; twice {
			return fmt.Errorf("the field %s is there twice", w)
		}
		value = bytes.TrimSpace(value)
		s.size += len(value)
		s.name, s.fields[w] = w, string(value)
		s.long.WriteString(s.fields[w])
	}
	return nil
}

// more takes a line with which a field goes on.
func (s *stanzas) more(line []byte) error {
	switch {
	case !s.any:
		return errors.New("a continuation without a field before it")
	case s.name == "":
		return nil
	}
	line = bytes.TrimSpace(line)
	if s.size += len(line) + 1; s.size > maxStanza {
		return fmt.Errorf("a paragraph has more than %d bytes", maxStanza)
	}
	s.long.WriteByte('\n')
	s.long.Write(line)
	return nil
}

// finish puts the value of the field in its place.
func (s *stanzas) finish() {
	if s.name != "" && s.long.Len() > len(s.fields[s.name]) {
		s.fields[s.name] = s.long.String()
	}
	s.name = ""
	s.long.Reset()
}

// end gives the paragraph on, if there was one.
func (s *stanzas) end(each func(map[string]string) error) error {
	s.finish()
	if !s.any {
		return nil
	}
	err := each(s.fields)
	clear(s.fields)
	s.any, s.size = false, 0
	return err
}
