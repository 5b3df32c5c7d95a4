package node

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/dustin/go-humanize"

	"swarmnode/node/control"
	"swarmnode/node/limit"
)

// monthsFile remembers how much was sent and received in the last months, in the home directory.
const monthsFile = "months.json"

// openLimit takes up what was sent this month.
func (n *Node) openLimit() (err error) {
	cfg := n.cfg.Limit
	cfg.File, cfg.Log = filepath.Join(n.cfg.Home, monthsFile), n.log
	if cfg.Now == nil {
		cfg.Now = n.cfg.Now
	}
	cfg.Changed = func() { // others hear that this node gives nothing any more, or again
		for _, c := range n.all() {
			c.changed()
		}
	}
	n.limit, err = limit.New(cfg)
	return err
}

// SetLimits changes limits of the running node by their names: upload, download, monthly. They hold until it ends.
func (n *Node) SetLimits(values map[string]string) error { return n.limit.Set(values) }

func (n *Node) limitStatus() control.Limits {
	s := n.limit.Stats()
	return control.Limits{
		Upload: s.Now.Upload, Download: s.Now.Download, Monthly: s.Now.Monthly, Schedule: s.Schedule,
		Month: s.Month.Name, Sent: s.Month.Sent, Received: s.Month.Received, Ends: s.Ends, Over: s.Over,
	}
}

// spentWorry is what an operator has to know of the month.
func spentWorry(l control.Limits) concern {
	if !l.Over {
		return concern{}
	}
	return concern{usedUp, fmt.Sprintf("month used up: %s of %s sent, nothing is given to others before %s: `swarmnode limits set monthly=…` gives more",
		humanize.IBytes(uint64(l.Sent)), humanize.IBytes(uint64(l.Monthly)), l.Ends.Format(time.DateOnly))}
}
