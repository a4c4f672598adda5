//go:build linux

package client_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/attesttest"
	"github.com/cloister-cc/cloister/attest/channel"
	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/cloister-cc/cloister/tee/software/softwaretest"
)

// fakeNode is an HTTP server on the software TEE whose key set the test chooses.
func fakeNode(t *testing.T, jwks string) *client.Node {
	t.Helper()
	p := softwaretest.New(t)
	device := p.Device(t, launch.NewBuiltin(launch.RoleNode), nil, nil)
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := channel.NewListener(inner, channel.ServerTLS(certificate(t)), channel.Config{Attester: device}, nil)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/jwks.json", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, jwks) })
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	done := make(chan error)
	go func() { done <- server.Serve(l) }()
	n, err := client.NewNode(client.NodeConfig{Address: l.Addr().String(), Roots: p.Roots, Policy: attest.Development()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.Close()
		server.Close()
		<-done
	})
	return n
}

func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestNodeTokenVerifier(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	kid, err := attest.Thumbprint(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	issuer, err := attest.NewIssuer(attest.IssuerConfig{Name: client.NodeIssuer(kid), Key: key, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	verified, err := attesttest.New(tee.Claims{}).Verified([64]byte{1}, now)
	if err != nil {
		t.Fatal(err)
	}
	policy := attest.Development().Digest()
	token, err := issuer.Issue(verified, policy, attest.IssueOptions{})
	if err != nil {
		t.Fatal(err)
	}
	jwks, err := json.Marshal(issuer.JWKS())
	if err != nil {
		t.Fatal(err)
	}

	v, err := fakeNode(t, string(jwks)).TokenVerifier(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(token, now); !errors.Is(err, attest.ErrToken) {
		t.Errorf("accepted before the caller said what for: %v", err)
	}
	v.AllowNoAudience, v.AllowSimulated, v.Policies = true, true, [][32]byte{policy}
	res, err := v.Verify(token, now)
	if err != nil || res.KeyID != kid || res.Issuer != "cloister node "+kid {
		t.Errorf("%+v, %v", res, err)
	}
}

// Even an attested node can be defective; a key set is read strictly.
func TestNodeJWKSRefuses(t *testing.T) {
	for name, jwks := range map[string]string{
		"empty": ``, "null": `null`, "no keys": `{"keys":[]}`, "symmetric": `{"keys":[{"kty":"oct","k":"AAAA","kid":"1"}]}`,
		"HTML": `<html>`, "endless": `{"keys":[` + strings.Repeat(`{"kty":"EC"},`, 10_000) + `{}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			n := fakeNode(t, jwks)
			if set, err := n.JWKS(context.Background()); err == nil || len(set.IDs()) != 0 {
				t.Errorf("keys %v, %v", set.IDs(), err)
			}
			if v, err := n.TokenVerifier(context.Background()); err == nil || v.Issuer != "" {
				t.Errorf("%+v, %v", v, err)
			}
		})
	}
}
