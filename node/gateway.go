package node

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"swarmnode/content"
	"swarmnode/gossip"
	"swarmnode/node/control"
	"swarmnode/node/gateway"
)

// GatewayConfig says where ordinary clients reach what a node has, over HTTP. The zero value is useful.
type GatewayConfig struct {
	Listen            string          // host:port; "": gateway.DefaultListen, or a free port when it is taken
	Sockets           gateway.Sockets // bound by the service manager; instead of Listen
	URL               string          // as others reach it, as GatewayURL gives it; told to the other members. "": it is for this machine or network
	CertFile, KeyFile string          // PEM files, both or none; with them it speaks TLS
	AccessLog         string          // file for a line per request; "-": standard output, "": none
	FullAddresses     bool            // the log has the whole addresses of clients, not their networks
	AllowPrivate      bool            // gateways that other members have at private addresses are asked and named to clients, too
}

// GatewayURL checks the address by which others reach a gateway and gives the one form in which it is told to them: http or https, a
// host, a port if it is not the usual one, a path that ends with "/".
func GatewayURL(text string) (string, error) {
	bad := func(why string) (string, error) {
		return "", fmt.Errorf("%q is not the address of a gateway: %s; write it like https://mirror.example.org/ or http://192.0.2.7:8080/", text, why)
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return bad("it cannot be read as a URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return bad("it does not begin with http:// or https://")
	case u.Hostname() == "":
		return bad("it has no host")
	case u.User != nil:
		return bad("it has a user name in it, which everybody would read")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.HasSuffix(text, "#"):
		return bad("a gateway has no query and no fragment")
	}
	if port := u.Port(); port != "" || strings.HasSuffix(u.Host, ":") {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return bad("its port is not a number from 1 to 65535")
		}
	}
	if p := u.EscapedPath(); strings.Contains(p, "//") || strings.Contains(p+"/", "/./") || strings.Contains(p+"/", "/../") {
		return bad("its path has empty parts or dots")
	}
	if !strings.HasSuffix(u.Path, "/") {
		u.Path += "/"
		if u.RawPath != "" {
			u.RawPath += "/"
		}
	}
	s := (&url.URL{Scheme: u.Scheme, Host: strings.ToLower(u.Host), Path: u.Path, RawPath: u.RawPath}).String()
	if len(s) > gossip.MaxGateway {
		return bad(fmt.Sprintf("it has %d characters, and there is room for %d", len(s), gossip.MaxGateway))
	}
	return s, nil
}

// web are the HTTP faces of a node: for everybody, and for its operator.
type web struct {
	catalogue catalogue
	url       string // as others reach it
	others    gateways
	gateway   *gateway.Gateway
	server    *gateway.Server    // nil: this node has none
	dashboard *control.Dashboard // nil: this node has none
}

// openWeb makes the dashboard and the gateway and takes their ports.
func (n *Node) openWeb() error {
	w := &n.web
	w.catalogue = catalogue{collections: n.all, mirrors: w.others.mirrors, now: n.cfg.Now, log: func(c *collection, manifest content.Digest, err error) {
		n.log.Debug("a release is not served by the gateway", "collection", c.id, "manifest", manifest, "error", err)
	}}
	if at := n.cfg.Dashboard; at != nil {
		d, err := control.ListenDashboard(control.DashboardConfig{Listen: *at, Status: n.Status, Now: n.cfg.Now, Log: n.log})
		if err != nil {
			return err
		}
		w.dashboard = d
	}
	cfg := n.cfg.Gateway
	if cfg == nil {
		return nil
	}
	if cfg.URL != "" {
		u, err := GatewayURL(cfg.URL)
		if err != nil {
			return err
		}
		w.url = u
	}
	w.gateway = gateway.New(gateway.Config{Catalogue: &w.catalogue, URL: w.url, Now: n.cfg.Now, Log: n.log})
	server, err := gateway.Listen(gateway.ServerConfig{Handler: w.gateway, Listen: cfg.Listen, Sockets: cfg.Sockets, CertFile: cfg.CertFile, KeyFile: cfg.KeyFile,
		AccessLog: cfg.AccessLog, FullAddresses: cfg.FullAddresses, Limit: n.limit, Log: n.log})
	if err != nil {
		return err
	}
	w.server = server
	return nil
}

// startWeb serves until the end of t.
func (n *Node) startWeb(t *tasks) {
	if n.web.server != nil {
		t.must("gateway", n.web.server.Run)
	}
	if n.web.dashboard != nil {
		t.must("dashboard", n.web.dashboard.Run)
	}
}

// closeWeb gives the ports back; it does nothing after Run.
func (n *Node) closeWeb() error {
	var err error
	if n.web.dashboard != nil {
		err = n.web.dashboard.Close()
	}
	if n.web.server == nil {
		return err
	}
	return errors.Join(err, n.web.server.Close(), n.web.gateway.Close())
}

// Gateway gives the address of the root of the gateway as it is reached from this machine; "" if there is none.
func (n *Node) Gateway() string {
	if n.web.server == nil {
		return ""
	}
	return n.web.server.URL()
}

func (w *web) status() *control.Gateway {
	if w.server == nil {
		return nil
	}
	s := w.server.Stats()
	g := &control.Gateway{Local: w.server.URL(), URL: w.url, Loopback: w.server.Loopback(), Connections: s.Conns, Failed: s.Answers[0] + s.Answers[5], Refused: s.Refused, Slow: s.Slow, Bytes: s.Bytes}
	for _, n := range s.Answers {
		g.Answers += n
	}
	return g
}
