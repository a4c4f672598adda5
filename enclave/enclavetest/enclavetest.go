//go:build linux

// Package enclavetest gives tests of enclave programs an [enclave.Enclave]
// without an instance around it: an agent in the test's own process, over a
// software TEE in a temporary directory. Sealing, counters and evidence are
// real ones of that TEE; nothing is faked but the launch.
//
// It protects nothing and is for tests only.
package enclavetest

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"net"
	"testing"

	"github.com/cloister-cc/cloister/enclave"
	"github.com/cloister-cc/cloister/enclave/call"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/cloister-cc/cloister/tee/software"
	"github.com/cloister-cc/cloister/tee/software/softwaretest"
)

// Program is what the TEE measures and the agent hands out. The zero value is an
// unsigned program without arguments and secrets.
type Program struct {
	Image   []byte // bytes of the program; nil stands for some
	Args    []string
	Debug   bool
	Secrets map[string][]byte // by name
	// Signer signs the image as version SVN of Product. nil: unsigned.
	Signer  *ecdsa.PrivateKey
	Product uint32
	SVN     uint32
}

// New launches a program on a platform of its own. Both end with the test.
func New(tb testing.TB, p Program) *enclave.Enclave {
	tb.Helper()
	return On(tb, softwaretest.New(tb), p)
}

// On launches a program on a platform that it shares with others, such as its
// own next version. It ends with the test.
func On(tb testing.TB, platform *softwaretest.Platform, p Program) *enclave.Enclave {
	tb.Helper()
	doc, image, signature := p.document(tb)
	in := platform.Instance(tb, doc, image, signature)
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		call.Serve(theirs, (&agent{in, p}).answer)
		_ = theirs.Close()
	}()
	tb.Cleanup(func() {
		_ = ours.Close()
		<-done
		if err := in.Close(); err != nil {
			tb.Error(err)
		}
	})
	e, err := enclave.OpenConn(ours)
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

// document is the launch document of p.
func (p Program) document(tb testing.TB) (doc launch.Document, image, signature []byte) {
	tb.Helper()
	if image = p.Image; image == nil {
		image = []byte("\x00asm program under test")
	}
	doc = launch.New(launch.Wasm, image)
	doc.Args, doc.Debug = p.Args, p.Debug
	if p.Signer == nil {
		return doc, image, nil
	}
	signature, err := launch.SignImage(p.Signer, doc.Image.Digest, p.Product, p.SVN)
	if err != nil {
		tb.Fatal(err)
	}
	if doc, err = doc.Signed(signature); err != nil {
		tb.Fatal(err)
	}
	return doc, image, signature
}

// agent answers as the agent of an instance does (package compute/agent).
type agent struct {
	in      *software.Instance
	program Program
}

func (a *agent) answer(r call.Request) call.Answer { return call.Result(a.handle(r)) }

func (a *agent) handle(r call.Request) (call.Answer, error) {
	switch r.Op {
	case call.Self:
		return call.Answer{Identity: a.identity()}, nil
	case call.Secret:
		b, ok := a.program.Secrets[r.Name]
		if !ok {
			return call.Answer{}, errors.New("the launch document asks for no secret of that name")
		}
		return call.Answer{Data: b}, nil
	default: // ports, raw evidence and reasons are for instances
		return call.FromTEE(context.Background(), a.in, r)
	}
}

func (a *agent) identity() *call.Identity {
	info := a.in.Info()
	return &call.Identity{
		TEE: tee.Software, Simulated: true, Debug: a.program.Debug,
		Measurement: info.Measurement, LaunchDigest: info.LaunchDigest[:], InstanceID: info.InstanceID,
		RuntimeDigest: info.RuntimeDigest[:], Root: info.RootCertificate, Args: a.program.Args,
	}
}
