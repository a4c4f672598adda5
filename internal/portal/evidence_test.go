package portal

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/cloister-cc/cloister/tee/software"
	"github.com/cloister-cc/cloister/tee/software/softwaretest"
)

// attested is a lab with one running instance that gives real evidence of a
// software TEE.
func attested(t *testing.T) *lab {
	t.Helper()
	p := softwaretest.New(t)
	i := worker(compute.Running)
	digest, err := i.Spec.Launch.Digest()
	if err != nil {
		t.Fatal(err)
	}
	i.Expected = software.Expect(softwaretest.Runtime, digest)
	device := p.Device(t, i.Spec.Launch, []byte(module), nil)
	l := newLab(t, i)
	l.host.roots = p.Roots
	l.host.evidence = func(ctx context.Context, _ string, nonce []byte) (tee.Evidence, [64]byte, error) {
		want := tee.Bind("test", nonce)
		ev, err := device.Evidence(ctx, want)
		return ev, want, err
	}
	return l
}

func TestEvidenceThatVerifies(t *testing.T) {
	html := attested(t).page("/instances/worker/evidence")
	wants(t, html, "The evidence verifies", "fresh: it answers a nonce", "as computed before the start", "No findings",
		"That of this host's portal", "Do not rely on it", "development", "accepts", "hardware-default", "refuses", "simulated evidence protects nothing",
		"launch_digest", "SHA-256 of the launch document", "walls", "Development Root", "SHA-256 ", "ECDSA P-256", "cloister instance measure", "allow_simulated: true", "cloister attest verify", "--roots /data/root.pem", "jq -r .report_data worker.json")
	if strings.Contains(html, "binding_unchecked") {
		t.Error("fresh evidence is not compared with its nonce")
	}
}

func TestEvidenceThatDoesNot(t *testing.T) {
	l := attested(t)
	good := l.host.evidence
	l.host.evidence = func(ctx context.Context, name string, nonce []byte) (tee.Evidence, [64]byte, error) {
		ev, want, err := good(ctx, name, nonce)
		want[0] ^= 1
		return ev, want, err
	}
	wants(t, l.page("/instances/worker/evidence"), "The evidence does not verify", "Nothing in it may be believed", "<code class=\"code\">binding</code>", "answers another nonce")
	l.host.evidence = good
	roots := l.host.roots
	l.host.roots = nil
	html := l.page("/instances/worker/evidence")
	wants(t, html, "The evidence does not verify", "<code class=\"code\">chain</code>", "name the platform&#39;s development root", "Certificates")
	if strings.Contains(html, "<h2 id=\"h-claims\">") || strings.Contains(html, "accepts") {
		t.Error("claims of evidence that does not verify are shown")
	}
	l.host.evidence = func(context.Context, string, []byte) (tee.Evidence, [64]byte, error) {
		return tee.Evidence{Kind: tee.TPM, Data: []byte("a quote")}, [64]byte{}, nil
	}
	wants(t, l.page("/instances/worker/evidence"), "Not verified here", "could not get its certificate")
	l.host.list[0].Spec.TEE = tee.TPM
	wants(t, l.page("/instances/worker/evidence"), "cloister attest tpm-ca", "--roots tpm-ca.pem")
	l.host.list[0].Spec.TEE = tee.Software
	l.host.evidence, l.host.roots = good, roots
	l.host.list[0].Expected = tee.Measurement(bytes.Repeat([]byte{9}, 32))
	wants(t, l.page("/instances/worker/evidence"), "not the one that was computed", "want 0909")
}

// What an instance showed before is shown when it gives nothing now, and is not
// called fresh.
func TestEvidenceOfBefore(t *testing.T) {
	l := attested(t)
	ev, _, err := l.host.evidence(t.Context(), "worker", []byte("an old nonce"))
	if err != nil {
		t.Fatal(err)
	}
	l.host.list[0].Status.Evidence = &ev
	l.host.evidence = nil
	wants(t, l.page("/instances/worker/evidence"), "The evidence verifies", "not fresh: the instance gave no fresh evidence", "binding_unchecked")
	l.host.list[0].Status.State = compute.Stopped
	wants(t, l.page("/instances/worker/evidence"), "not fresh: the instance does not run")
	l.host.list[0].Status = compute.Status{State: compute.Attesting}
	wants(t, l.page("/instances/worker/evidence"), "No evidence", "still starting", "Verify it yourself")
}

// A debug instance is refused by both policies.
func TestEvidenceOfDebug(t *testing.T) {
	p := softwaretest.New(t)
	i := worker(compute.Running)
	i.Spec.Launch.Debug = true
	device := p.Device(t, i.Spec.Launch, []byte(module), nil)
	l := newLab(t, i)
	l.host.roots = p.Roots
	l.host.evidence = func(ctx context.Context, _ string, nonce []byte) (tee.Evidence, [64]byte, error) {
		ev, err := device.Evidence(ctx, tee.Bind("test", nonce))
		return ev, tee.Bind("test", nonce), err
	}
	html := l.page("/instances/worker/evidence")
	wants(t, html, "start the instance without debug", "allow_debug: true")
	if strings.Contains(html, ">accepts<") {
		t.Error("a policy accepts a debug instance")
	}
}

func TestNodeCommands(t *testing.T) {
	i := worker(compute.Running)
	i.Name, i.Spec.Launch = compute.NodeName, launch.NewBuiltin(launch.RoleNode)
	l := newLab(t, i)
	wants(t, l.page("/instances/node/evidence"), "cloister version")
	wants(t, l.page("/instances/node/host"), "Keys and policies of all owners")
}

func TestMeasureCommand(t *testing.T) {
	i := everything(compute.Running)
	i.Spec.TEE = tee.TPM
	i.Spec.Launch.Env = map[string]string{"MOTTO": "it's $HOME; rm -rf /"}
	want := `cloister instance measure --tee tpm-vm --vcpus 2 --vm-memory 512 --in records=FILE --out result=FILE --secret data-key=hospital-a/records ` +
		`--env 'MOTTO=it'\''s $HOME; rm -rf /' --operator-env REGION=ANY --port 8443 --port 9000 --memory 256 --time-limit 60 --logs stderr --debug --signature FILE IMAGE -- --year 'two words'`
	if got := measureCommand(i); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestCertificates(t *testing.T) {
	now := time.Now()
	made := func(key any, public any, from time.Time) []byte {
		c := &x509.Certificate{SerialNumber: big.NewInt(255), Subject: pkix.Name{CommonName: "<b>"}, NotBefore: from, NotAfter: from.Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, c, c, public, key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	ec, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	list := certificates([][]byte{made(ec, ec.Public(), now), made(rsaKey, rsaKey.Public(), now.Add(-2*time.Hour)), []byte("no certificate")}, now.Add(time.Minute))
	if c := list[0]; c.Key != "ECDSA P-384" || !c.Current || !c.Self || c.Serial != "ff" || c.Subject != `CN=\<b\>` || len(c.Fingerprint) != 64 {
		t.Errorf("%+v", c)
	}
	if c := list[1]; c.Key != "RSA, 2048 bits" || c.Current {
		t.Errorf("%+v", c)
	}
	if c := list[2]; c.Broken == "" || c.Fingerprint == "" {
		t.Errorf("%+v", c)
	}
}

// The certificates inside evidence are found, each once, and never too many.
func TestChainOf(t *testing.T) {
	pemOf := "-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----\n"
	if got := chainOf(tee.Evidence{Kind: tee.TDX, Data: []byte("quote " + pemOf + pemOf + "-----BEGIN CERTIFICATE-----"), Certificates: [][]byte{{7}}}); len(got) != 2 || got[1][2] != 2 {
		t.Errorf("%v", got)
	}
	if got := chainOf(tee.Evidence{Certificates: make([][]byte, 1000)}); len(got) != 1 {
		t.Errorf("%d certificates", len(got))
	}
}

func FuzzChainOf(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----\n"))
	f.Add([]byte{0xd2, 0x84, 0x43, 0xa1, 1, 0x26, 0xa0, 0x41, 0, 0x41, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, kind := range []tee.Kind{tee.Software, tee.TDX} {
			certificates(chainOf(tee.Evidence{Kind: kind, Data: b}), time.Now())
		}
	})
}

func TestTree(t *testing.T) {
	deep := map[string]any{}
	for range 20 {
		deep = map[string]any{"x": deep}
	}
	wide := map[string]any{}
	for n := range 1000 {
		wide[strings.Repeat("k", n+1)] = n
	}
	list := tree(map[string]any{"deep": deep, "wide": wide, "words": []any{"a", "b"}, "mixed": []any{"a", map[string]any{"b": true}}, "none": []any{}, "empty": "", "no": false, "number": uint64(7)})
	got := map[string]branch{}
	for _, b := range list {
		got[b.Name] = b
	}
	if got["words"].Value != "a, b" || len(got["mixed"].Children) != 2 || got["none"].Value != "none" || got["empty"].Value != "none" || got["no"].Value != "no" || got["number"].Value != "7" {
		t.Errorf("%+v", got)
	}
	if n := len(got["wide"].Children); n != maxChildren+1 {
		t.Errorf("%d children", n)
	}
	depth, b := 0, got["deep"]
	for len(b.Children) > 0 {
		depth, b = depth+1, b.Children[0]
	}
	if depth > maxDepth || b.Value != "…" {
		t.Errorf("depth %d, then %q", depth, b.Value)
	}
}
