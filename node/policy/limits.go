package policy

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
)

// unlimited is how people write that there is no limit.
const unlimited = "none"

// Rate is how much may move, in bytes per second; 0: as much as goes. It reads and writes what people write: 20Mbit, 2.5MB. So it can
// be the value of a flag.
type Rate int64

// rateUnits are the units of rates in bytes per second, the largest first. Names of bits are those of network links, names of bytes
// those of downloads.
var rateUnits = [...]struct {
	name  string
	bytes float64
}{
	{"Gbit", 1e9 / 8}, {"Mbit", 1e6 / 8}, {"kbit", 1e3 / 8}, {"bit", 1.0 / 8},
	{"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1},
}

var rateForm = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]+?)(?:/s)?$`)

// ParseRate reads 20Mbit, 800 kbit/s, 2.5MB/s, none. Units are bit/s with kbit, Mbit, Gbit and B/s with kB, MB, GB.
func ParseRate(text string) (Rate, error) {
	text = strings.TrimSpace(text)
	if text == unlimited {
		return 0, nil
	}
	form := rateForm.FindStringSubmatch(text)
	if form == nil {
		return 0, fmt.Errorf("%q is not a rate: write it like 20Mbit or 2.5MB (a second), or none", text)
	}
	number, err := strconv.ParseFloat(form[1], 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a rate: %w", text, err)
	}
	for _, u := range rateUnits {
		if !strings.EqualFold(u.name, form[2]) {
			continue
		}
		if u.name[len(u.name)-1] == 'B' && form[2][len(form[2])-1] != 'B' {
			break // 20Mb may mean either
		}
		bytes := number * u.bytes
		if bytes < float64(MinRate) || bytes > math.MaxInt64/1024 {
			return 0, fmt.Errorf("%q is too little or too much for a rate: at least %s, or none", text, MinRate)
		}
		return Rate(bytes), nil
	}
	return 0, fmt.Errorf("%q is not a rate: its unit is bit, kbit, Mbit or Gbit, or B, kB, MB or GB", text)
}

// MinRate is the smallest rate, 64 kbit/s: with less, an answer of one chunk takes longer than askers wait.
const MinRate Rate = 8000

// String writes the rate with the largest unit of bits that leaves no more than three digits behind the point.
func (r Rate) String() string {
	if r <= 0 {
		return unlimited
	}
	for _, u := range rateUnits[:4] {
		if v := float64(r) / u.bytes; v >= 1 {
			return strconv.FormatFloat(math.Round(v*1000)/1000, 'f', -1, 64) + u.name
		}
	}
	return unlimited
}

// Set and Type make it the value of a flag.
func (r *Rate) Set(text string) error {
	rate, err := ParseRate(text)
	if err == nil {
		*r = rate
	}
	return err
}

// Type is how help names the value.
func (r *Rate) Type() string { return "RATE" }

// Limits are what the operator gives. The zero value is no limit.
type Limits struct {
	Upload   Rate // to others outside of the local network, over all protocols together
	Download Rate // from them
	Monthly  int64
}

// LimitNames are the names that [Limits.Set] knows.
func LimitNames() []string { return []string{"upload", "download", "monthly"} }

// Set changes one limit by its name: upload and download are rates, monthly is a size such as 2TB.
func (l *Limits) Set(name, value string) error {
	switch name {
	case "upload":
		return l.Upload.Set(value)
	case "download":
		return l.Download.Set(value)
	case "monthly":
		n, err := ParseMonthly(value)
		if err == nil {
			l.Monthly = n
		}
		return err
	}
	return fmt.Errorf("there is no limit %q; there are %s", name, strings.Join(LimitNames(), ", "))
}

// ParseMonthly reads how many bytes may be sent in a month: 2TB, 500GiB, none.
func ParseMonthly(text string) (int64, error) {
	if strings.TrimSpace(text) == unlimited {
		return 0, nil
	}
	n, err := humanize.ParseBytes(text)
	if err != nil || n == 0 || n > 1<<62 {
		return 0, fmt.Errorf("%q is not a size: write it like 2TB or 500GB, or none", text)
	}
	if LacksUnit(text, n) {
		return 0, fmt.Errorf("%q is %d bytes: write it like 2TB or 500GB, or none", text, n)
	}
	return int64(n), nil
}

// LacksUnit reports whether a size that was read as so many bytes is a number whose unit was forgotten: nobody gives twenty bytes.
// Those that programs write, in bytes, are larger.
func LacksUnit(text string, bytes uint64) bool {
	const least = 4096
	return bytes < least && strings.Trim(text, " 0123456789.,") == ""
}
