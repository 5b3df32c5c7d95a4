package main

import (
	"fmt"

	"github.com/spf13/pflag"

	"swarmnode/node"
	"swarmnode/node/control"
)

// noGateway is the value of --gateway for a node that does not serve ordinary clients.
const noGateway = "none"

// gatewayFlags say how ordinary clients reach a node.
type gatewayFlags struct {
	gateway       string
	gatewayURL    string
	tlsCert       string
	tlsKey        string
	accessLog     string
	fullAddresses bool
	allowPrivate  bool
}

func (f *gatewayFlags) addGateway(fl *pflag.FlagSet) {
	fl.StringVar(&f.gateway, "gateway", "", "`HOST:PORT` at which browsers, apt, curl and so on reach the files, such as :8080 for all addresses of this machine; \"none\" for no gateway (default 127.0.0.1:8080, else a free port)")
	fl.StringVar(&f.gatewayURL, "gateway-url", "", "`URL` by which others reach this gateway, such as https://mirror.example.org/; told to all members, so that other mirrors name it to their clients")
	fl.StringVar(&f.tlsCert, "tls-cert", "", "certificate `FILE` (PEM) for a gateway that speaks https; read again when it changes")
	fl.StringVar(&f.tlsKey, "tls-key", "", "key `FILE` (PEM) of the certificate")
	fl.StringVar(&f.accessLog, "access-log", "", "`FILE` that gets a line for every request to the gateway, - for standard output")
	fl.BoolVar(&f.fullAddresses, "access-log-addresses", false, "write whole addresses to the access log, not only their network")
	fl.BoolVar(&f.allowPrivate, "allow-private", false, "also check gateways that other mirrors have at private addresses (in a LAN), and send clients there")
}

// gatewayConfig checks what was said; nil is no gateway.
func (f *gatewayFlags) gatewayConfig() (*node.GatewayConfig, error) {
	if (f.tlsCert == "") != (f.tlsKey == "") {
		return nil, misuse("--tls-cert and --tls-key go together: give both files")
	}
	if f.fullAddresses && f.accessLog == "" {
		return nil, misuse("--access-log-addresses needs --access-log FILE")
	}
	if f.gateway == noGateway {
		if f.gatewayURL+f.tlsCert+f.accessLog != "" {
			return nil, misuse("--gateway none: there is no gateway that --gateway-url, --tls-cert or --access-log could be about")
		}
		return nil, nil
	}
	if err := checkGateway(f.gateway); err != nil {
		return nil, err
	}
	cfg := &node.GatewayConfig{Listen: f.gateway, CertFile: f.tlsCert, KeyFile: f.tlsKey, AccessLog: f.accessLog, FullAddresses: f.fullAddresses, AllowPrivate: f.allowPrivate}
	if f.gatewayURL != "" {
		u, err := node.GatewayURL(f.gatewayURL)
		if err != nil {
			return nil, misuse("--gateway-url: %v", err)
		}
		cfg.URL = u
	}
	return cfg, nil
}

// tellGateway says where ordinary clients find the files; nothing if nowhere.
func (a *app) tellGateway(g *control.Gateway) {
	if g == nil {
		return
	}
	switch {
	case g.URL != "":
		fmt.Fprintf(a.stdout, "Browsers, apt, curl and so on find the files at %s\n", g.URL)
	case g.Loopback:
		fmt.Fprintf(a.stdout, "Browsers, apt, curl and so on find the files at %s - on this machine only; --gateway :8080 lets others in\n", g.Local)
	default:
		fmt.Fprintf(a.stdout, "Browsers, apt, curl and so on find the files at %s - elsewhere by the name or address of this machine\n", g.Local)
	}
}
