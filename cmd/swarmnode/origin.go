package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"swarmnode/content/origin"
	"swarmnode/node/control"
	"swarmnode/node/policy"
	"swarmnode/node/trigger"
)

const (
	// originEvery is how often an origin is looked at, unless somebody says: what a polite mirror does.
	originEvery = time.Hour
	// watchedEvery is how often a watched directory is scanned besides: the watching is a hint that may be missed.
	watchedEvery = 5 * time.Minute
	// maxConnections is how many connections to an origin one may ask for. Chosen: more is an attack.
	maxConnections = 64
)

// originFlags say what is published instead of a directory, and when again.
type originFlags struct {
	from control.From
	rate policy.Rate
	disk sizeFlag
	triggerFlags
}

// triggerFlags say when something is published again.
type triggerFlags struct {
	control.Triggers
	now string // a name: nothing is published here, the running node is told to
}

// section is a part of the flags under a heading of its own in the help.
type section struct {
	title string
	flags *pflag.FlagSet
}

func newSection(title string) section {
	return section{title, pflag.NewFlagSet(title, pflag.ContinueOnError)}
}

// add gives the sections with the flags, which are in those of cmd, too.
func (o *originFlags) add(cmd *cobra.Command) []section {
	from := newSection("An origin elsewhere")
	f := from.flags
	f.StringVar(&o.from.URL, "from", "", "`URL` of what is published instead of a directory, such as https://example.org/pub/ ("+strings.Join(origin.Schemes(), ", ")+"); its files are fetched, and fetched again when they change")
	f.StringArrayVar(&o.from.Include, "include", nil, "publish only files that match this `GLOB`, and what they are in; may be repeated")
	f.BoolVar(&o.from.Strict, "strict", false, "publish nothing while the origin has paths that cannot be published, instead of leaving them out")
	f.BoolVar(&o.from.Private, "from-private", false, "the origin may be at a private address; else such are not read, whatever a name or a redirect says")
	f.IntVar(&o.from.Connections, "connections", 0, fmt.Sprintf("at most `N` connections to the origin (default %d)", origin.DefaultConnections))
	f.Var(&o.rate, "rate", "how much to read from the origin at most, per second, such as 50Mbit")
	f.Var(&o.disk, "disk", "how much disk what comes from origins may take, such as 500GB (default: the free space less 10 %)")
	f.StringVar(&o.from.Contact, "contact", "", "`WHOM` the people of the origin can write to; it is sent with each request, such as mirror@example.org")
	f.StringVar(&o.from.Netrc, "netrc", "", "`FILE` with the names and passwords for origins (default ~/.netrc)")
	f.StringVar(&o.from.CACert, "ca-cert", "", "`FILE` with certificates (PEM) that TLS servers are believed by, beside the system's")
	f.StringVar(&o.from.KnownHosts, "known-hosts", "", "`FILE` with the keys of SSH servers (default ~/.ssh/known_hosts)")
	f.StringVar(&o.from.SSHKey, "ssh-key", "", "`FILE` with the secret key for SSH servers (default: the agent's, and those in ~/.ssh)")
	f.StringVar(&o.from.Keyring, "keyring", "", "`FILE` with the OpenPGP keys that a package repository has to be signed with")
	when := newSection("When to look again")
	f = when.flags
	f.DurationVar(&o.Every, "every", 0, "`TIME` between two looks, such as 5m, give or take a tenth; 0 for none by itself (default 1h with --from, 5m with --watch)")
	f.BoolVar(&o.Watch, "watch", false, "look when files of the directory change, too")
	f.StringVar(&o.Webhook, "webhook", "", "`HOST:PORT` at which a POST to /NAME, signed with the secret, has it look now")
	f.StringVar(&o.SecretFile, "webhook-secret-file", "", "`FILE` with the secret of webhooks: 32 characters or more")
	f.StringVar(&o.now, "now", "", "have the node that runs here look at the collection `NAME` now, wait for that and tell")
	sections := []section{from, when}
	for _, s := range sections {
		cmd.Flags().AddFlagSet(s.flags)
	}
	return sections
}

// inSections has the help of a command show its flags under headings: first its own, then the sections, then those of all nodes.
func inSections(cmd *cobra.Command, own *pflag.FlagSet, sections []section) {
	cmd.SetUsageFunc(func(c *cobra.Command) error {
		rest := newSection("The node")
		seen := func(name string) bool { return own.Lookup(name) != nil }
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			for _, s := range sections {
				if s.flags.Lookup(f.Name) != nil {
					return
				}
			}
			if !seen(f.Name) && c.InheritedFlags().Lookup(f.Name) == nil {
				rest.flags.AddFlag(f)
			}
		})
		out := c.OutOrStderr()
		_, err := fmt.Fprintf(out, "Usage:\n  %s\n\nExamples:\n%s\n\nFlags:\n%s", c.UseLine(), c.Example, own.FlagUsages())
		for _, s := range append(sections, rest, section{"For all commands", c.InheritedFlags()}) {
			if err == nil {
				_, err = fmt.Fprintf(out, "\n%s:\n%s", s.title, s.flags.FlagUsages())
			}
		}
		return err
	})
}

// complete checks what was said and fills in the defaults. changed tells whether a flag was given.
func (o *originFlags) complete(dir string, changed func(name string) bool) error {
	if dir != "" && o.from.URL != "" {
		return misuse("publish %s or --from %s: one of them", quote(dir), origin.WithoutPassword(o.from.URL))
	}
	if o.from.URL == "" {
		for _, name := range []string{"include", "strict", "from-private", "connections", "rate", "contact", "netrc", "ca-cert", "known-hosts", "ssh-key", "keyring", "allow-shrink"} {
			if changed(name) {
				return misuse("--%s is about an origin: give its URL with --from", name)
			}
		}
	}
	if o.from.Connections < 0 || o.from.Connections > maxConnections {
		return misuse("--connections %d: say from 1 to %d", o.from.Connections, maxConnections)
	}
	o.from.Rate = int64(o.rate)
	for _, file := range []*string{&o.from.Netrc, &o.from.CACert, &o.from.KnownHosts, &o.from.SSHKey, &o.from.Keyring, &o.SecretFile} {
		if err := absolute(file); err != nil {
			return err
		}
	}
	return o.completeTriggers(o.from.URL, changed("every"))
}

// completeTriggers does so for when to look again.
func (o *triggerFlags) completeTriggers(from string, everySaid bool) error {
	if o.Watch && from != "" && !strings.HasPrefix(from, "/") && !strings.HasPrefix(from, "file:") {
		return misuse("--watch is for directories of this machine: %s has to be asked, with --every, or say so itself, with --webhook", origin.WithoutPassword(from))
	}
	switch {
	case o.Every != 0 && o.Every < trigger.MinEvery:
		return misuse("--every %v: say at least %v, or 0 for none", o.Every, trigger.MinEvery)
	case everySaid:
	case o.Watch:
		o.Every = watchedEvery
	case from != "":
		o.Every = originEvery
	}
	if o.SecretFile != "" && o.Webhook == "" {
		return misuse("--webhook-secret-file goes with --webhook HOST:PORT")
	}
	if o.Webhook != "" {
		if err := trigger.CheckAddress(o.Webhook, o.SecretFile != ""); err != nil {
			return misuse("--webhook %v", err)
		}
	}
	return nil
}

// absolute makes a path good for a node that runs in another directory; "" stays.
func absolute(file *string) (err error) {
	if *file != "" {
		*file, err = filepath.Abs(*file)
	}
	return err
}

// checkGlobs refuses patterns that match nothing because they are written wrongly.
func checkGlobs(flag string, patterns []string) error {
	for _, p := range patterns {
		if _, err := path.Match(p, ""); err != nil {
			return misuse("--%s %s: a [ or \\ in it has no end", flag, quote(p))
		}
	}
	return nil
}

// checkFrom refuses a URL that no origin can have.
func checkFrom(rawURL string) error {
	if strings.HasPrefix(rawURL, "/") {
		return nil
	}
	u, err := origin.Parse(rawURL)
	if err != nil {
		return misuse("--from: %v", err)
	}
	known := origin.Schemes()
	for _, s := range known {
		if s == u.Scheme {
			return nil
		}
	}
	// Of two that are as near the first counts: who wrote htp meant the one that most people mean.
	if near := nearest(u.Scheme, append([]string{"http"}, known...)); near != "" {
		return misuse("--from %s: there is no scheme %q; did you mean %q?", origin.WithoutPassword(rawURL), u.Scheme, near)
	}
	return misuse("--from %s: it should begin with one of %s, each followed by ://, or be the whole path of a directory", origin.WithoutPassword(rawURL), strings.Join(known, ", "))
}

// besideNow refuses what was said beside --now and would do nothing. What the environment or a configuration file has is for the
// publish that began it all.
func (a *app) besideNow(cmd *cobra.Command, name, dir string) error {
	if dir != "" {
		return misuse("--now %s has the running node publish, as it was told: leave %s away", quote(name), quote(dir))
	}
	var idle []string
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		said := "--" + f.Name
		switch {
		case f.Name == "now" || f.Name == "allow-empty" || f.Name == "allow-shrink" || f.Name == "json":
		case cmd.InheritedFlags().Lookup(f.Name) == nil && a.sources[f.Name].place == said:
			idle = append(idle, said)
		}
	})
	if len(idle) == 0 {
		return nil
	}
	return misuse("--now %s has the running node publish, as it was told; --allow-empty, --allow-shrink and --json go with it, %s not: leave it away, or say it in a `swarmnode publish` without --now, which changes what was told",
		quote(name), strings.Join(idle, ", "))
}

// publishNow has the running node publish a collection, and tells what came of it.
func (a *app) publishNow(ctx context.Context, o *publishOptions) error {
	p := a.newProgress(o.json)
	req := control.NowRequest{Collection: o.now, AllowEmpty: o.request.AllowEmpty, AllowShrink: o.request.AllowShrink}
	res, err := control.NewClient(a.home).PublishNow(ctx, req, func(s control.PublishProgress) { p.update(publishAt(s)) })
	p.end()
	if errors.Is(err, control.ErrNoNode) {
		return fmt.Errorf("no node is running with the home directory %s: `swarmnode publish` starts one, and publishes", a.home)
	}
	if err != nil {
		return err
	}
	if o.json {
		return a.tellPublished(res, true)
	}
	a.tellOutcome(res)
	return nil
}

// tellOutcome prints what a publish has made, without what is for others.
func (a *app) tellOutcome(res control.PublishResult) {
	out := a.stdout
	for _, s := range res.Skipped {
		fmt.Fprintf(out, "Left out: %s\n", s)
	}
	p := res.Pulled
	switch {
	case res.Unchanged:
		fmt.Fprintf(out, "Nothing has changed: %s is still at release %d, %s, %s.\n", res.Name, res.Release, count(res.Files, "file"), size(res.Bytes))
	default:
		fmt.Fprintf(out, "Published %s, release %d: %s, %s, of which %s are new, in %s.\n", res.Name, res.Release, count(res.Files, "file"),
			size(res.Bytes), size(res.NewBytes), seconds(res.Seconds))
		if p != nil {
			fmt.Fprintf(out, "From the origin: %s, %s, and %s to list it.\n", count(p.Files, "file"), size(p.Bytes), count(p.Requests, "request"))
		}
	}
	if p != nil && !p.Dated.IsZero() {
		fmt.Fprintf(out, "Its metadata are of %s.\n", dated(p.Dated, time.Now()))
	}
}

// dated writes when metadata were made, and how long ago that is.
func dated(made, now time.Time) string {
	return made.Local().Format(time.DateTime) + ", " + humanize.RelTime(made, now, "ago", "from now")
}

// tellTriggers says when it is looked at again.
func (a *app) tellTriggers(s control.Status, res control.PublishResult) {
	for _, c := range s.Collections {
		if c.ID == res.ID && c.Origin != nil {
			fmt.Fprintf(a.stdout, "\nFollowing %s: %s.\n", c.Origin.URL, triggersLine(c.Origin, c.Name))
		}
	}
}

// triggersLine says what has a collection looked at.
func triggersLine(o *control.Origin, name string) string {
	var when []string
	if o.Every > 0 {
		when = append(when, "every "+inWords(time.Duration(o.Every*float64(time.Second))))
	}
	if o.Watch {
		when = append(when, "when files change")
	}
	if o.Webhook != "" {
		when = append(when, "when "+o.Webhook+" is called")
	}
	return strings.Join(append(when, "when somebody says `swarmnode publish --now "+quote(name)+"`"), ", ")
}

// inWords writes a duration without its zeros.
func inWords(d time.Duration) string {
	s := d.Round(time.Second).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// originLines are what status tells of a collection that is published again by itself.
func originLines(c control.Collection, now time.Time) (lines []string) {
	o := c.Origin
	lines = append(lines, o.URL+", "+triggersLine(o, c.Name), lookLine(o, now))
	if !o.Dated.IsZero() {
		lines = append(lines, "its metadata are of "+dated(o.Dated, now))
	}
	if l := o.Change; l.Release > 0 {
		line := fmt.Sprintf("release %d came %s ago", l.Release, brief(max(now.Sub(l.At), 0)))
		if l.Files > 0 {
			line += fmt.Sprintf(": %s, %s fetched in %s", count(l.Files, "file"), size(l.Bytes), seconds(l.Seconds))
		}
		lines = append(lines, line)
	}
	if o.Runs > 0 {
		line := fmt.Sprintf("%s since the start, %s made, %d failed", count(o.Runs, "look"), count(o.Changes, "release"), o.Failures)
		if o.Files > 0 {
			line += fmt.Sprintf("; %s, %s fetched", count(o.Files, "file"), size(o.Bytes))
		}
		lines = append(lines, line)
	}
	if o.Paths > 0 {
		lines = append(lines, count(o.Paths, "path")+" left out, such as:")
		for _, reason := range o.Reasons {
			lines = append(lines, "  "+reason)
		}
	}
	if o.Error != "" {
		line := "error: " + o.Error
		if !o.Failing.IsZero() {
			line = fmt.Sprintf("failing since %s: %s", o.Failing.Local().Format(time.DateTime), o.Error)
			if c.Release > 0 {
				line += fmt.Sprintf("; release %d is served meanwhile", c.Release)
			}
		}
		lines = append(lines, line)
	}
	return lines
}

// lookLine tells of the look under way, or of the last one and the next.
func lookLine(o *control.Origin, now time.Time) string {
	if o.Running {
		line := fmt.Sprintf("looked at now (%s), for %s", o.Cause, brief(max(now.Sub(o.Begun), 0)))
		if o.Progress == nil || o.Progress.Phase == "" {
			return line
		}
		at := publishAt(*o.Progress)
		line += ": " + at.what
		switch {
		case at.total > 0:
			line += fmt.Sprintf(", %s of %s", size(at.done), size(at.total))
		case at.done > 0:
			line += ", " + size(at.done)
		}
		if at.more != "" {
			line += ", " + at.more
		}
		return line
	}
	line := "not looked at since the start"
	if !o.Last.IsZero() {
		line = fmt.Sprintf("looked at %s ago (%s) in %s", brief(max(now.Sub(o.Last), 0)), o.Cause, seconds(o.LastSeconds))
		if o.LastRequests > 0 {
			line += ", " + count(o.LastRequests, "request")
		}
	}
	if !o.Next.IsZero() {
		line += ", next in " + brief(max(o.Next.Sub(now), 0))
	}
	return line
}
