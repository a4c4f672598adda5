package channel_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/attesttest"
	"github.com/cloister-cc/cloister/attest/channel"
	"github.com/cloister-cc/cloister/tee"
)

// A program inside a TEE listens; a client proves that it speaks to that program,
// over this very connection, before it sends anything.
func Example() {
	node := attesttest.New(tee.Claims{InstanceID: "node-1"}) // on hardware: the TEE's device
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	l := channel.NewListener(inner, channel.ServerTLS(selfSigned()), channel.Config{Attester: node}, nil)
	defer func() { _ = l.Close() }()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, "what only this program knows")
		_ = c.Close()
	}()

	appraiser, err := attest.Compile(attest.Development())
	if err != nil {
		panic(err)
	}
	appraise := func(ev tee.Evidence, reportData [64]byte) (*attest.Verified, error) {
		v, err := attest.NewVerifier(node).Verify(ev, node.Input(time.Now()), attest.BindTo(reportData))
		if err != nil {
			return nil, err
		}
		return v, appraiser.Appraise(v)
	}
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		panic(err)
	}
	c, err := channel.Client(context.Background(), conn, nil, channel.Config{Appraise: appraise})
	if err != nil {
		panic(err)
	}
	b, err := io.ReadAll(c)
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s: %s\n", c.PeerVerified().Claims.InstanceID, b)
	// Output: node-1: what only this program knows
}

// selfSigned makes a certificate that nobody vouches for: evidence will.
func selfSigned() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
