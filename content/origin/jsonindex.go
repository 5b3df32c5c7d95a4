package origin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"swarmnode/content"
)

// errNoIndex says that a page is none.
var errNoIndex = errors.New("it is not an index")

// maxTold is how long time and size of a row may be together: a time to the nanosecond has 35 bytes, a size 19. They are kept for each file.
const maxTold = 100

// jsonRow is one element of a JSON index, of nginx (autoindex_format json: type, mtime) or of caddy (is_dir, mod_time, mode).
type jsonRow struct {
	Name  string      `json:"name"`
	Type  string      `json:"type"`
	Size  json.Number `json:"size"`
	Mtime string      `json:"mtime"`
	IsDir *bool       `json:"is_dir"`
	Time  string      `json:"mod_time"`
	Mode  json.Number `json:"mode"`
}

// parseJSON reads a JSON index: an array with an object for each name.
func parseJSON(r io.Reader) ([]row, error) { return parseJSONRows(r, maxRows) }

func parseJSONRows(r io.Reader, most int) ([]row, error) {
	d := json.NewDecoder(r)
	syntax := (*json.SyntaxError)(nil)
	if t, err := d.Token(); err == nil && t != json.Delim('[') || errors.Is(err, io.EOF) || errors.As(err, &syntax) {
		return nil, errNoIndex
	} else if err != nil {
		return nil, err
	}
	var rows []row
	for d.More() {
		var j jsonRow
		if err := d.Decode(&j); err != nil {
			return nil, fmt.Errorf("the JSON index after %d names: %w", len(rows), err)
		}
		if j.Name == "" || j.Type == "" && j.IsDir == nil {
			return nil, errNoIndex
		}
		if rows = append(rows, j.row()); len(rows) > most {
			return nil, errTooManyRows(most)
		}
	}
	// The closing bracket: without it the listing is cut.
	if _, err := d.Token(); err != nil {
		return nil, fmt.Errorf("the JSON index after %d names: %w", len(rows), err)
	}
	return rows, nil
}

func (j *jsonRow) row() row {
	r := row{name: strings.TrimSuffix(j.Name, "/"), size: SizeUnknown}
	switch {
	case j.Type == "directory", j.IsDir != nil && *j.IsDir:
		r.mode = content.ModeDir | 0o755
	case j.Type == "file", j.IsDir != nil:
		r.mode = content.ModeFile | 0o644
	}
	if mode, err := strconv.ParseUint(j.Mode.String(), 10, 32); err == nil && mode&0o777 != 0 && r.mode != 0 {
		r.mode = r.mode&^0o777 | uint32(mode)&0o777
	}
	size, err := strconv.ParseInt(j.Size.String(), 10, 64)
	if err == nil {
		r.size = size
	}
	told := j.Mtime + j.Time
	t, bad := http.ParseTime(told)
	if bad != nil {
		t, bad = time.Parse(time.RFC3339Nano, told)
	}
	if bad == nil && len(told)+len(j.Size) <= maxTold {
		r.mtime = t.UTC()
		r.text = told + " " + j.Size.String()
		r.exact = err == nil
	}
	return r
}
