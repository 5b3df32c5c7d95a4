package control

import (
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// MetricKind says how a metric moves.
type MetricKind string

const (
	// Counter only grows until the node is started again.
	Counter MetricKind = "counter"
	// Gauge goes up and down.
	Gauge MetricKind = "gauge"
)

// Metric documents one metric that a node exports.
type Metric struct {
	Name string     `json:"name"`            // with its unit, as the Prometheus naming rules want it
	Kind MetricKind `json:"kind"`            // how it moves
	Help string     `json:"help"`            // one line for people
	Each bool       `json:"each_collection"` // there is one for each collection, with the labels collection (its ID) and name
}

// nodeMetric is a metric of the whole node. value tells that there is none now by false.
type nodeMetric struct {
	Metric
	value func(s *summed) (float64, bool)
}

// collectionMetric is a metric of one collection.
type collectionMetric struct {
	Metric
	value func(c *Collection) (float64, bool)
}

// summed is a status with what several metrics need of its lists.
type summed struct {
	Status
	inbound, outbound, bootstrap, banned int
	medianRTT                            time.Duration // 0: nobody was measured
}

func sum(s Status, now time.Time) *summed {
	x := &summed{Status: s}
	var rtts []time.Duration
	for _, p := range s.Peers {
		if p.Inbound {
			x.inbound++
		} else {
			x.outbound++
		}
		if p.RTT > 0 {
			rtts = append(rtts, p.RTT)
		}
	}
	if len(rtts) > 0 {
		slices.Sort(rtts)
		x.medianRTT = rtts[len(rtts)/2]
	}
	for _, b := range s.Bootstrap {
		if b.Connected {
			x.bootstrap++
		}
	}
	for _, o := range s.Offenders {
		if o.BannedUntil.After(now) {
			x.banned++
		}
	}
	return x
}

func some[N int | int64 | uint64](n N) (float64, bool) { return float64(n), true }

func yes(b bool) (float64, bool) {
	if b {
		return 1, true
	}
	return 0, true
}

// at gives a time as Prometheus wants it; there is none for the zero time.
func at(t time.Time) (float64, bool) { return float64(t.UnixMilli()) / 1000, !t.IsZero() }

// ofGateway is a number of the gateway, where there is one.
func ofGateway(f func(g *Gateway) uint64) func(*summed) (float64, bool) {
	return func(s *summed) (float64, bool) {
		if s.Gateway == nil {
			return 0, false
		}
		return some(f(s.Gateway))
	}
}

// ofCache is a number of a collection of which only what was asked for is kept.
func ofCache(f func(c *Cache) (float64, bool)) func(*Collection) (float64, bool) {
	return func(c *Collection) (float64, bool) {
		if c.Cache == nil {
			return 0, false
		}
		return f(c.Cache)
	}
}

// whole and each write the tables down.
func whole(name string, kind MetricKind, help string, value func(*summed) (float64, bool)) nodeMetric {
	return nodeMetric{Metric{"swarmnode_" + name, kind, help, false}, value}
}

func each(name string, kind MetricKind, help string, value func(*Collection) (float64, bool)) collectionMetric {
	return collectionMetric{Metric{"swarmnode_collection_" + name, kind, help, true}, value}
}

func nodeMetrics() []nodeMetric {
	return []nodeMetric{
		whole("fine", Gauge, "1 when there is nothing to worry about, else 0; status and the dashboard say what it is.", func(s *summed) (float64, bool) { return yes(s.Fine) }),
		whole("started_timestamp_seconds", Gauge, "When the node was started.", func(s *summed) (float64, bool) { return at(s.Started) }),
		whole("received_bytes_total", Counter, "Content and metadata received from peers.", func(s *summed) (float64, bool) { return some(s.BytesIn) }),
		whole("sent_bytes_total", Counter, "Content and metadata sent to peers.", func(s *summed) (float64, bool) { return some(s.BytesOut) }),
		whole("upload_limit_bytes_per_second", Gauge, "What may be sent now, the local network left out; 0 for no limit.", func(s *summed) (float64, bool) { return some(int64(s.Limits.Upload)) }),
		whole("download_limit_bytes_per_second", Gauge, "What may be received now; 0 for no limit.", func(s *summed) (float64, bool) { return some(int64(s.Limits.Download)) }),
		whole("month_limit_bytes", Gauge, "What may be sent in a calendar month; 0 for no limit.", func(s *summed) (float64, bool) { return some(s.Limits.Monthly) }),
		whole("month_sent_bytes", Gauge, "Sent in this calendar month, to peers and ordinary clients; kept over restarts.", func(s *summed) (float64, bool) { return some(s.Limits.Sent) }),
		whole("month_received_bytes", Gauge, "Received in this calendar month; kept over restarts.", func(s *summed) (float64, bool) { return some(s.Limits.Received) }),
		whole("inbound_peers", Gauge, "Connected peers that came to this node.", func(s *summed) (float64, bool) { return some(s.inbound) }),
		whole("outbound_peers", Gauge, "Connected peers that this node went to.", func(s *summed) (float64, bool) { return some(s.outbound) }),
		whole("peer_rtt_median_seconds", Gauge, "Median round-trip time to the connected peers; absent as long as none is measured.",
			func(s *summed) (float64, bool) { return s.medianRTT.Seconds(), s.medianRTT > 0 }),
		whole("bootstrap_addresses", Gauge, "Addresses that this node was told to stay connected to.", func(s *summed) (float64, bool) { return some(len(s.Bootstrap)) }),
		whole("bootstrap_connected", Gauge, "How many of these are connected.", func(s *summed) (float64, bool) { return some(s.bootstrap) }),
		whole("suspect_peers", Gauge, "Peers remembered for what no honest node does.", func(s *summed) (float64, bool) { return some(len(s.Offenders)) }),
		whole("banned_peers", Gauge, "How many of these are banned now.", func(s *summed) (float64, bool) { return some(s.banned) }),
		whole("collections", Gauge, "Collections that this node mirrors or publishes.", func(s *summed) (float64, bool) { return some(len(s.Collections)) }),
		whole("gateway_connections", Gauge, "Open connections of ordinary clients. Like all of the gateway: absent without one.", ofGateway(func(g *Gateway) uint64 { return uint64(g.Connections) })),
		whole("gateway_answers_total", Counter, "Answers to ordinary clients.", ofGateway(func(g *Gateway) uint64 { return g.Answers })),
		whole("gateway_failed_answers_total", Counter, "Answers with a status of 500 or more, or broken off.", ofGateway(func(g *Gateway) uint64 { return g.Failed })),
		whole("gateway_refused_total", Counter, "Connections and requests over the limits.", ofGateway(func(g *Gateway) uint64 { return g.Refused })),
		whole("gateway_slow_clients_total", Counter, "Clients dropped because they read too slowly.", ofGateway(func(g *Gateway) uint64 { return g.Slow })),
		whole("gateway_sent_bytes_total", Counter, "Bytes sent to ordinary clients, without headers.", ofGateway(func(g *Gateway) uint64 { return g.Bytes })),
	}
}

func collectionMetrics() []collectionMetric {
	return slices.Concat(servingMetrics(), storageMetrics(), transferMetrics(), originMetrics())
}

func servingMetrics() []collectionMetric {
	return []collectionMetric{
		each("published", Gauge, "1 where this node is the master.", func(c *Collection) (float64, bool) { return yes(c.Published) }),
		each("alarm", Gauge, "1 when the publisher signed things that contradict each other.", func(c *Collection) (float64, bool) { return yes(c.Alarm != "") }),
		each("trouble", Gauge, "1 when something keeps the node from its work.", func(c *Collection) (float64, bool) { return yes(c.Trouble != "") }),
		each("release", Gauge, "Release that is served; 0 for none yet.", func(c *Collection) (float64, bool) { return some(c.Release) }),
		each("newest_release", Gauge, "Newest release that is known.", func(c *Collection) (float64, bool) { return some(c.Head) }),
		each("fresh_timestamp_seconds", Gauge, "Until when the served release is known to have been the newest; absent before the first.", func(c *Collection) (float64, bool) { return at(c.FreshAsOf) }),
		each("expires_timestamp_seconds", Gauge, "When the publisher's signature ends.", func(c *Collection) (float64, bool) { return at(c.Expires) }),
		each("missed_heartbeats", Gauge, "Hourly confirmations of the publisher that did not come.", func(c *Collection) (float64, bool) { return some(c.Lag) }),
		each("files", Gauge, "Files of the served release.", func(c *Collection) (float64, bool) { return some(c.Files) }),
		each("mirrors", Gauge, "Other nodes that said they have all of the newest release.", func(c *Collection) (float64, bool) { return some(c.Mirrors) }),
		each("holders", Gauge, "Connected peers that serve the collection.", func(c *Collection) (float64, bool) { return some(c.Holders) }),
	}
}

func storageMetrics() []collectionMetric {
	return []collectionMetric{
		each("complete", Gauge, "1 when all of the newest release is here.", func(c *Collection) (float64, bool) { return yes(c.Complete) }),
		each("segments", Gauge, "Segments of the release that is being kept.", func(c *Collection) (float64, bool) { return some(c.Segments) }),
		each("complete_segments", Gauge, "How many of these are here.", func(c *Collection) (float64, bool) { return some(c.SegmentsComplete) }),
		each("content_bytes", Gauge, "Size of the release that is being kept.", func(c *Collection) (float64, bool) { return some(c.Bytes) }),
		each("held_bytes", Gauge, "How much of this is here.", func(c *Collection) (float64, bool) { return some(c.BytesHere) }),
		each("disk_bytes", Gauge, "What is taken on the disk, with releases that are on their way out.", func(c *Collection) (float64, bool) { return some(c.BytesOnDisk) }),
		each("disk_budget_bytes", Gauge, "What may be taken; 0 for what the disk has.", func(c *Collection) (float64, bool) { return some(c.BytesBudget) }),
		each("scrub_passes_total", Counter, "Finished passes that read again all that is kept; kept over restarts.", func(c *Collection) (float64, bool) { return some(c.Scrub.Passes) }),
		each("scrub_finished_timestamp_seconds", Gauge, "When the last pass finished; absent before the first.", func(c *Collection) (float64, bool) { return at(c.Scrub.Finished) }),
		each("damaged_total", Counter, "Chunks, metadata blocks and trust files found damaged.", func(c *Collection) (float64, bool) { return some(c.Scrub.Bad) }),
		each("repaired_total", Counter, "How many of these were repaired.", func(c *Collection) (float64, bool) { return some(c.Scrub.Repaired) }),
		each("missing", Gauge, "How many are needed and not repaired yet.", func(c *Collection) (float64, bool) { return some(c.Scrub.Missing) }),
		each("cache_bytes", Gauge, "Content kept because it was asked for. Like all of the cache: absent for whole mirrors.", ofCache(func(c *Cache) (float64, bool) { return some(c.Bytes) })),
		each("cache_budget_bytes", Gauge, "How much may be kept.", ofCache(func(c *Cache) (float64, bool) { return some(c.Budget) })),
		each("cache_hits_total", Counter, "Chunks that were asked for and were here.", ofCache(func(c *Cache) (float64, bool) { return some(c.Hits) })),
		each("cache_misses_total", Counter, "Chunks that were asked for and had to be fetched.", ofCache(func(c *Cache) (float64, bool) { return some(c.Misses) })),
	}
}

func transferMetrics() []collectionMetric {
	return []collectionMetric{
		each("received_bytes_total", Counter, "Received for this collection.", func(c *Collection) (float64, bool) { return some(c.ReceivedBytes) }),
		each("metadata_bytes_total", Counter, "How much of this was metadata.", func(c *Collection) (float64, bool) { return some(c.MetadataBytes) }),
		each("wasted_bytes_total", Counter, "How much of this was of no use: wrong, or here already.", func(c *Collection) (float64, bool) { return some(c.WastedBytes) }),
		each("in_flight_bytes", Gauge, "Asked for and not here yet.", func(c *Collection) (float64, bool) { return some(c.BytesInFlight) }),
		each("unobtainable_segments", Gauge, "Segments that no connected node has.", func(c *Collection) (float64, bool) { return some(c.Unobtainable) }),
		each("announced_to_complete_seconds", Gauge, "How long the served release took from its announcement until it was here.",
			func(c *Collection) (float64, bool) { return c.AnnouncedToComplete, c.AnnouncedToComplete > 0 }),
	}
}

// ofOrigin is a number of a collection that is published again by itself.
func ofOrigin(f func(o *Origin) (float64, bool)) func(*Collection) (float64, bool) {
	return func(c *Collection) (float64, bool) {
		if c.Origin == nil {
			return 0, false
		}
		return f(c.Origin)
	}
}

func originMetrics() []collectionMetric {
	return []collectionMetric{
		each("origin_behind", Gauge, "1 when runs have failed for three intervals. Like all of the origin: absent where nothing is published by itself.", ofOrigin(func(o *Origin) (float64, bool) { return yes(o.Behind) })),
		each("origin_runs_total", Counter, "Times that the origin, or the directory, was looked at.", ofOrigin(func(o *Origin) (float64, bool) { return some(o.Runs) })),
		each("origin_failed_runs_total", Counter, "How many of these failed.", ofOrigin(func(o *Origin) (float64, bool) { return some(o.Failures) })),
		each("origin_changes_total", Counter, "How many made a release.", ofOrigin(func(o *Origin) (float64, bool) { return some(o.Changes) })),
		each("origin_requests_total", Counter, "Requests that listing the origin took.", ofOrigin(func(o *Origin) (float64, bool) { return some(o.Requests) })),
		each("origin_fetched_bytes_total", Counter, "Content read from the origin.", ofOrigin(func(o *Origin) (float64, bool) { return some(o.Bytes) })),
		each("origin_run_seconds", Gauge, "How long the last run took; absent before the first.", ofOrigin(func(o *Origin) (float64, bool) { return o.LastSeconds, o.Runs > 0 })),
		each("origin_success_timestamp_seconds", Gauge, "When the last run without an error ended; absent before the first.", ofOrigin(func(o *Origin) (float64, bool) { return at(o.Success) })),
		each("origin_metadata_timestamp_seconds", Gauge, "When the metadata of a package repository were made, by what they say, the oldest of several; absent for other origins.", ofOrigin(func(o *Origin) (float64, bool) { return at(o.Dated) })),
		each("origin_left_out", Gauge, "Paths of the origin that cannot be published.", ofOrigin(func(o *Origin) (float64, bool) { return some(o.Paths) })),
	}
}

// Metrics lists what a node exports beside the usual go_ and process_ metrics: first what is of the whole node.
func Metrics() []Metric {
	var list []Metric
	for _, m := range nodeMetrics() {
		list = append(list, m.Metric)
	}
	for _, m := range collectionMetrics() {
		list = append(list, m.Metric)
	}
	return list
}

// described is a metric as the registry wants it.
type described[V any] struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value V
}

func describe[V any](m Metric, value V) described[V] {
	d := described[V]{kind: prometheus.GaugeValue, value: value}
	if m.Kind == Counter {
		d.kind = prometheus.CounterValue
	}
	var labels []string
	if m.Each {
		labels = []string{"collection", "name"}
	}
	d.desc = prometheus.NewDesc(m.Name, m.Help, labels, nil)
	return d
}

// collector asks for the status once in each scrape, so that the numbers of one scrape belong together.
type collector struct {
	status func() Status
	now    func() time.Time
	node   []described[func(*summed) (float64, bool)]
	each   []described[func(*Collection) (float64, bool)]
}

func newCollector(status func() Status, now func() time.Time) *collector {
	c := &collector{status: status, now: now}
	for _, m := range nodeMetrics() {
		c.node = append(c.node, describe(m.Metric, m.value))
	}
	for _, m := range collectionMetrics() {
		c.each = append(c.each, describe(m.Metric, m.value))
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range c.node {
		to <- d.desc
	}
	for _, d := range c.each {
		to <- d.desc
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	s := sum(c.status(), c.now())
	for _, d := range c.node {
		if v, ok := d.value(s); ok {
			to <- prometheus.MustNewConstMetric(d.desc, d.kind, v)
		}
	}
	for i := range s.Collections {
		x := &s.Collections[i]
		id, name := x.ID.String(), strings.ToValidUTF8(x.Name, "\uFFFD") // other text is no label, and the name comes from outside
		for _, d := range c.each {
			if v, ok := d.value(x); ok {
				to <- prometheus.MustNewConstMetric(d.desc, d.kind, v, id, name)
			}
		}
	}
}

// newRegistry has the metrics of one node, and of the process that it is.
func newRegistry(status func() Status, now func() time.Time) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(newCollector(status, now), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}
