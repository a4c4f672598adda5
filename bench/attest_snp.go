package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime/debug"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/maa"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/snp"
	"github.com/cloister-cc/cloister/tee/snp/snptest"
)

// serveSNP is set for the child that [serveReports] is.
const serveSNP = "CLOISTER_BENCH_SERVE_SNP"

// served is what that child says of itself.
type served struct {
	Address     string          `json:"address"`
	Certificate []byte          `json:"certificate"` // DER
	Body        json.RawMessage `json:"body"`
}

// attestSNP is an attest call for a report of SEV-SNP. A node would want AMD's
// revocation list, of which there is no recording, so the service and its HTTPS are
// in a process of their own, under roots of a test; a node has its hops around that.
func (b *bench) attestSNP() ([]figure, error) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), serveSNP+"=1")
	cmd.Stderr = os.Stderr
	in, err1 := cmd.StdinPipe() // closed, it ends the child
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer func() { _, _ = in.Close(), cmd.Wait() }()
	var s served
	if err := json.NewDecoder(out).Decode(&s); err != nil {
		return nil, fmt.Errorf("the service does not start: %w", err)
	}
	roots := x509.NewCertPool()
	certificate, err := x509.ParseCertificate(s.Certificate)
	if err != nil {
		return nil, err
	}
	roots.AddCert(certificate)
	a := &attester{base: "https://" + s.Address, r: &releaser{program: cmd.Process.Pid}}
	a.http = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: workers, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}}}
	defer a.http.CloseIdleConnections()
	span := 5 * time.Second
	if b.quick {
		span = time.Second
	}
	done, cpu, err := a.r.measure(span, func(ctx context.Context) error {
		return a.do(ctx, http.MethodPost, "/attest/SevSnpVm?api-version=2025-06-01", s.Body)
	})
	if err != nil {
		return nil, err
	}
	one, err := p384Verification()
	if err != nil {
		return nil, err
	}
	limit := 1e9 / cpuOf(one)
	return []figure{{
		Name: "SevSnpVm attested over HTTPS, ES256, for each CPU second of the service", Value: done / cpu, Unit: "/s",
		Against: "P-384 verifications", Limit: limit, Ratio: done / cpu / limit, Bar: ">= 1050, where one P-384 verification takes 621 µs: >= 0.65 x",
	}}, nil
}

// p384Verification verifies a signature of a report.
func p384Verification() (func(), error) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, err
	}
	message := make([]byte, 0x2A0)
	digest := sha512.Sum384(message)
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	return func() {
		d := sha512.Sum384(message)
		if !ecdsa.Verify(&key.PublicKey, d[:], r, s) {
			panic("P-384 does not verify")
		}
	}, err
}

// serveReports serves a face of Azure Attestation that trusts an AMD of the test's
// own, says where and what to send, and ends with its standard input.
func serveReports() error {
	debug.SetGCPercent(400) // as a node does
	tb := &testing.T{}      // for makers of test evidence, which end this goroutine if they fail
	amd := snptest.New(tb, snp.Milan)
	input := amd.Input()
	input.Endorsements.CRLs = [][]byte{amd.ARK.CRL(tb, snptest.Validity{From: input.At.AddDate(0, -1, 0), To: input.At.AddDate(0, 1, 0)})}
	input.Endorsements.Certificates = [][]byte{amd.ASK.Certificate.Raw, amd.ARK.Certificate.Raw}
	service := maa.New(maa.Config{
		Verifier: attest.NewVerifier(snp.New()), Input: func(tee.Evidence) tee.Input { return input },
		Caller: func(*http.Request) []byte { return nil }, Now: func() time.Time { return input.At },
	})
	if err := service.Begin(nowhere{}); err != nil {
		return err
	}
	body, err := reportBody(tb, amd)
	if err != nil {
		return err
	}
	certificate, err := localCertificate()
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: service, ReadHeaderTimeout: time.Minute, TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13}}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = server.Close()
	}()
	if err := json.NewEncoder(os.Stdout).Encode(served{Address: l.Addr().String(), Certificate: certificate.Certificate[0], Body: body}); err != nil {
		return err
	}
	if err := server.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// nowhere is a log that nobody opens again.
type nowhere struct{}

func (nowhere) Append([]byte) error { return nil }

// reportBody is the body of a call as Microsoft's sidecar makes it.
func reportBody(tb testing.TB, amd *snptest.Manufacturer) ([]byte, error) {
	key, data := amd.VCEK(tb, snptest.KeyOptions{}), []byte("runtime data")
	r, digest := key.Report(), sha256.Sum256(data)
	r.ReportData = [64]byte{}
	copy(r.ReportData[:], digest[:])
	ev := key.Evidence(r)
	var chain bytes.Buffer
	for _, der := range ev.Certificates {
		if err := pem.Encode(&chain, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
			return nil, err
		}
	}
	text := base64.URLEncoding.EncodeToString
	report, err := json.Marshal(map[string]string{"SnpReport": text(ev.Data), "VcekCertChain": text(chain.Bytes())})
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{"report": text(report), "runtimeData": map[string]string{"data": text(data), "dataType": "Binary"}})
}

// localCertificate is a certificate for this machine, signed by itself.
func localCertificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
