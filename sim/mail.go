package sim

import (
	"time"

	"swarmnode/gossip"
)

// mail is a message about holdings on its way to a node.
type mail struct {
	at   time.Duration // when it arrives
	seq  uint64        // its place among the events of that time
	from *node
	h    *gossip.Holdings // shared by all to whom it goes
}

// mailbox holds what is on its way to a node, in the order of arrival. A node gets ten times as much mail as anything else
// and mail changes nothing but what the node knows, so mail is no event: it is read when something else happens
// at the node, or when it has to be thought about.
type mailbox struct {
	mails   []mail
	checkAt time.Duration // when the node looks next; 0: it is not planned
	later   time.Duration // another look that is planned, for after that; 0: none is known
	check   func()        // node.check, made once
}

// post puts a message into the box of another node.
func (n *node) post(to *node, d time.Duration, h *gossip.Holdings) {
	w, box := n.s.w, &to.box
	w.events.seq++
	m := mail{w.now + d, w.events.seq, n, h}
	box.mails = append(box.mails, m)
	i := len(box.mails) - 1
	for ; i > 0 && m.at < box.mails[i-1].at; i-- {
		box.mails[i] = box.mails[i-1]
	}
	box.mails[i] = m
	if !to.full {
		to.look(m.at + lookDelay)
	}
}

// read takes in the mail that has come. Nothing but mail was to happen at n since it came.
func (n *node) read() {
	w, mails := n.s.w, n.box.mails
	k := 0
	for ; k < len(mails); k++ {
		m := &mails[k]
		if m.at > w.now || m.at == w.now && m.seq > w.turn {
			break
		}
		if !n.cares(m.h) {
			continue
		}
		n.transfer.Holds(epoch.Add(m.at), m.from.id(), *m.h)
		if !n.full {
			n.planWake(m.at + lookDelay)
		}
	}
	if k > 0 {
		rest := copy(mails, mails[k:])
		clear(mails[rest:])
		n.box.mails = mails[:rest]
	}
}

// planWake plans the next step. One that is planned for sooner stays: it will plan again.
func (n *node) planWake(at time.Duration) {
	at = max(at, n.s.w.now)
	if n.wakeAt != 0 && at >= n.wakeAt {
		return
	}
	n.wakeAt = at
	n.look(at)
}

// look makes n look at its mail and at the clock at a time, or sooner.
func (n *node) look(at time.Duration) {
	if n.box.checkAt != 0 && n.box.checkAt <= at {
		return
	}
	if at != n.box.later {
		n.s.w.after(at-n.s.w.now, n.box.check)
	}
	if n.box.checkAt != 0 {
		n.box.later = n.box.checkAt
	}
	n.box.checkAt = at
}

// lookAgain plans the next look after something happened.
func (n *node) lookAgain() {
	if n.wakeAt != 0 {
		n.look(n.wakeAt)
	}
	if !n.full && len(n.box.mails) > 0 {
		n.look(n.box.mails[0].at + lookDelay)
	}
}

// check is what happens at the time of a look. One that was planned for later than another is void: it was planned again.
func (n *node) check() {
	if n.box.later == n.s.w.now {
		n.box.later = 0
	}
	if n.box.checkAt != n.s.w.now {
		return
	}
	n.box.checkAt = 0
	n.read()
	if n.wakeAt == n.s.w.now {
		n.wakeAt = 0
		n.step()
		return
	}
	n.lookAgain()
}
