package control

import _ "embed"

//go:embed web/grafana.json
var grafana string

// Grafana is a dashboard for Grafana over the metrics of any number of nodes, as the JSON that its import reads.
func Grafana() string { return grafana }
