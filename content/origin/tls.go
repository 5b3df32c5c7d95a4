package origin

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// tlsConfig is for connections to servers: their certificates are believed if the system's authorities, or those of Access.CACert, say so.
func tlsConfig(o *Options) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CACert == "" {
		return c, nil
	}
	pem, err := os.ReadFile(o.CACert)
	if err != nil {
		return nil, &RefusedError{Reason: "--ca-cert", Cause: err}
	}
	if c.RootCAs, err = x509.SystemCertPool(); err != nil {
		c.RootCAs = x509.NewCertPool()
	}
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return nil, &RefusedError{Reason: fmt.Sprintf("--ca-cert: there is no certificate in %s, which should have lines such as -----BEGIN CERTIFICATE-----", o.CACert)}
	}
	return c, nil
}

// inWords says what is wrong with a server's TLS, and who can do what about it. Errors that are not of TLS stay as they are.
func inWords(err error) error {
	host := "the server"
	invalid, name, authority := x509.CertificateInvalidError{}, x509.HostnameError{}, x509.UnknownAuthorityError{}
	record, alert := tls.RecordHeaderError{}, tls.AlertError(0)
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return &RefusedError{Reason: fmt.Sprintf("the certificate of %s is valid from %s to %s only, and not now: it has to be renewed there, or the clock here is wrong",
			host, invalid.Cert.NotBefore.Format("2006-01-02"), invalid.Cert.NotAfter.Format("2006-01-02")), Cause: err}
	case errors.As(err, &name):
		return &RefusedError{Reason: fmt.Sprintf("the certificate is not for %s: the URL needs the name that it is for", host), Cause: err}
	case errors.As(err, &authority):
		return &RefusedError{Reason: fmt.Sprintf("the certificate of %s is from an authority that is not known here: if it is the right one, give its file by --ca-cert", host), Cause: err}
	case errors.As(err, &invalid):
		return &RefusedError{Reason: "the certificate of " + host + " cannot be accepted", Cause: err}
	case errors.As(err, &record):
		return &RefusedError{Reason: host + " does not speak TLS on this port", Cause: err}
	case errors.As(err, &alert):
		return &RefusedError{Reason: host + " refuses TLS as it is spoken here (version 1.2 or later)", Cause: err}
	}
	return err
}
