package control

import _ "embed"

//go:embed web/grafana.json
var grafana string

//go:embed web/alerts.yml
var alerts string

// Grafana is a dashboard for Grafana over the metrics of any number of nodes, as the JSON that its import reads.
func Grafana() string { return grafana }

// Alerts are alerting rules over the same, as a file of rules of Prometheus.
func Alerts() string { return alerts }
