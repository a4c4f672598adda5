package node

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/cloister-cc/cloister/attest/channel"
)

// certificates gives TLS clients the node's certificate. Those that speak the
// attested channel look at evidence and not at who signed it. Clients of plain
// HTTPS get one for the name that they ask for, under an authority of this node
// alone: whoever has fetched that authority's certificate over the attested
// channel knows whom it talks to. The authority vouches for this node under any
// name, so it is to be trusted for the node's names and nothing else.
type certificates struct {
	authority *x509.Certificate
	signer    *ecdsa.PrivateKey // the service key
	leaf      *ecdsa.PrivateKey // of this process, never stored
	first     tls.Certificate

	mu     sync.Mutex
	byName map[string]*tls.Certificate
}

const (
	maxNames     = 256 // certificates that are remembered
	leafLifetime = 90 * 24 * time.Hour
)

// newCertificates makes the authority's certificate, which is the same each time
// but for its signature, and a first certificate under it.
func newCertificates(service *ecdsa.PrivateKey) (*certificates, error) {
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "cloister node authority"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC), // RFC 5280 section 4.1.2.5: no expiry
		KeyUsage: x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &service.PublicKey, service)
	if err != nil {
		return nil, err
	}
	c := &certificates{signer: service, byName: map[string]*tls.Certificate{}}
	if c.authority, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	if c.leaf, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	first, err := c.issue("")
	if err != nil {
		return nil, err
	}
	c.first = *first
	return c, nil
}

// issue makes a certificate for a name, and for this machine.
func (c *certificates) issue(name string) (*tls.Certificate, error) {
	serial := make([]byte, 16)
	if _, err := rand.Read(serial); err != nil {
		return nil, err
	}
	names := []string{"localhost", "cloister"}
	if name != "" && !slices.Contains(names, name) {
		names = append(names, name)
	}
	template := x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial), Subject: pkix.Name{CommonName: "cloister node"},
		DNSNames: names, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(leafLifetime),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, c.authority, &c.leaf.PublicKey, c.signer)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParseCertificate(der)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: c.leaf, Leaf: parsed}, err
}

// config is the TLS configuration of the node.
func (c *certificates) config() *tls.Config {
	config := channel.ServerTLS(c.first)
	config.GetCertificate = func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if slices.Contains(h.SupportedProtos, channel.Protocol) {
			return nil, nil // the first: the channel is bound to it
		}
		return c.named(h.ServerName)
	}
	return config
}

// named returns a certificate for a name that is good for a while.
func (c *certificates) named(name string) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.byName[name]; known != nil && time.Until(known.Leaf.NotAfter) > leafLifetime/2 {
		return known, nil
	}
	made, err := c.issue(name)
	if err != nil {
		return nil, err
	}
	if len(c.byName) >= maxNames {
		clear(c.byName)
	}
	c.byName[name] = made
	return made, nil
}

func (c *certificates) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.authority.Raw})
}
