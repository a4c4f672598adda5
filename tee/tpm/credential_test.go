package tpm

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/eventlog"
	"pgregory.net/rapid"
)

// eccTemplate is template L-2 of the TCG EK Credential Profile.
func eccTemplate(t *testing.T) []byte {
	t.Helper()
	policy, err := hex.DecodeString(endorsementPolicy)
	if err != nil {
		t.Fatal(err)
	}
	b := []byte{0, algECC, 0, byte(eventlog.SHA256), 0, 3, 0, 0xB2}
	b = sized(b, policy)
	b = append(b, 0, algAES, 0, 128, 0, algCFB, 0, algNull, 0, 3, 0, algNull)
	return sized(sized(b, make([]byte, 32)), make([]byte, 32))
}

// TestCredentialECC opens a challenge for an ECC endorsement key in swtpm.
func TestCredentialECC(t *testing.T) {
	path, err := exec.LookPath("swtpm")
	if err != nil {
		t.Skip("no swtpm on this machine: this test talks to a real TPM 2.0 implementation (apt-get install swtpm)")
	}
	socket := filepath.Join(t.TempDir(), "s")
	cmd := exec.Command(path, "socket", "--tpm2", "--tpmstate", "dir="+t.TempDir(), "--server", "type=unixio,path="+socket, "--flags", "not-need-init,startup-clear", "--terminate")
	if err := cmd.Start(); err != nil {
		t.Skipf("swtpm does not start: %v", err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	var conn net.Conn
	for deadline := time.Now().Add(20 * time.Second); conn == nil && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		conn, _ = net.Dial("unix", socket)
	}
	if conn == nil {
		t.Fatal("swtpm does not listen")
	}
	defer conn.Close()
	d := &device{conn}
	ak, akPublic, err := d.createPrimary(akTemplate())
	if err != nil {
		t.Fatal(err)
	}
	ek, ekPublic, err := d.createPrimary(eccTemplate(t))
	if err != nil {
		t.Fatal(err)
	}
	secret := []byte("secret")
	blob, encrypted, err := MakeCredential(ekPublic, akPublic.Name(), secret)
	if err != nil {
		t.Fatal(err)
	}
	got, err := d.activate(ak, ek, blob, encrypted)
	if err != nil || !bytes.Equal(got, secret) {
		t.Errorf("secret %q, error %v", got, err)
	}
	persistentKey(t, d, conn, ak, akPublic)
}

// persistentKey keeps a key at a persistent handle (TPM2_EvictControl), and has an
// attester quote with it.
func persistentKey(t *testing.T, d *device, conn net.Conn, ak uint32, public *Public) {
	t.Helper()
	const owner, evictControl, handle = 0x40000001, 0x120, 0x81000001
	_, err := d.run(&command{code: evictControl, handles: []uint32{owner, ak}, sessions: []session{{}}, params: []byte{0x81, 0, 0, 1}})
	if err != nil {
		t.Fatal(err)
	}
	a, err := NewAttester(conn, Options{AK: handle, PCRs: []uint32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 23}})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.AK().Name(), public.Name()) {
		t.Error("another key")
	}
	var all sync.WaitGroup
	for i := range byte(4) { // at once: commands take turns
		all.Go(func() {
			ev, err := a.Evidence(t.Context(), [64]byte{i})
			if err != nil {
				t.Error(err)
				return
			}
			s, err := ParseStatement(ev.Data)
			if err != nil {
				t.Error(err)
				return
			}
			if q, err := ParseQuote(s.Quote); err != nil || q.ExtraData[0] != i || len(s.PCRs[eventlog.SHA256]) != 12 {
				t.Errorf("quote %+v, error %v", q, err)
			}
		})
	}
	all.Wait()
}

// TestMakeCredential opens challenges as part 1 of the specification says, without
// a TPM, and wants the secret back.
func TestMakeCredential(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ek := &Public{NameAlgorithm: eventlog.SHA256, Attributes: FixedTPM | Restricted | Decrypt, SymmetricBits: 128, Key: &key.PublicKey}
	rapid.Check(t, func(t *rapid.T) {
		secret := rapid.SliceOfN(rapid.Byte(), 1, MaxSecret).Draw(t, "secret")
		name := rapid.SliceOfN(rapid.Byte(), 3, maxName).Draw(t, "name")
		blob, encrypted, err := MakeCredential(ek, name, secret)
		if err != nil {
			t.Fatal(err)
		}
		seed, err := rsa.DecryptOAEP(eventlog.SHA256.Hash().New(), nil, key, encrypted, []byte("IDENTITY\x00"))
		if err != nil {
			t.Fatal(err)
		}
		r := reader{b: blob}
		tag, body := r.sized(32), r.b
		mac := hmac.New(eventlog.SHA256.Hash().New, kdfa(eventlog.SHA256, seed, "INTEGRITY", nil, 256))
		mac.Write(append(bytes.Clone(body), name...))
		if !hmac.Equal(mac.Sum(nil), tag) {
			t.Fatal("wrong HMAC")
		}
		// CFB with one key stream per block: encrypting what was encrypted, block by
		// block, gives the plain bytes of the first block back.
		again, err := encryptCFB(kdfa(eventlog.SHA256, seed, "STORAGE", name, 128), body)
		if err != nil || !bytes.HasPrefix(again, sized(nil, secret)[:min(16, len(secret)+2)]) {
			t.Fatalf("plain %x, error %v", again, err)
		}
	})
}

func TestMakeCredentialRefuses(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := Public{NameAlgorithm: eventlog.SHA256, Attributes: FixedTPM | Restricted | Decrypt, SymmetricBits: 128, Key: &key.PublicKey}
	name, secret := make([]byte, 34), make([]byte, 32)
	with := func(change func(*Public)) *Public {
		p := good
		change(&p)
		return &p
	}
	for what, c := range map[string]struct {
		ek           *Public
		name, secret []byte
		code         tee.Code
	}{
		"no key":          {nil, name, secret, tee.CodeUnsupported},
		"not restricted":  {with(func(p *Public) { p.Attributes &^= Restricted }), name, secret, tee.CodeUnsupported},
		"not fixed":       {with(func(p *Public) { p.Attributes &^= FixedTPM }), name, secret, tee.CodeUnsupported},
		"signs":           {with(func(p *Public) { p.Attributes |= Sign }), name, secret, tee.CodeUnsupported},
		"no AES":          {with(func(p *Public) { p.SymmetricBits = 0 }), name, secret, tee.CodeUnsupported},
		"no public key":   {with(func(p *Public) { p.Key = nil }), name, secret, tee.CodeUnsupported},
		"empty secret":    {&good, name, nil, tee.CodeParse},
		"long secret":     {&good, name, make([]byte, 33), tee.CodeParse},
		"no name":         {&good, nil, secret, tee.CodeParse},
		"name too long":   {&good, make([]byte, 67), secret, tee.CodeParse},
		"the good one":    {&good, name, secret, ""},
		"AES of 256 bits": {with(func(p *Public) { p.SymmetricBits = 256 }), name, secret, ""},
	} {
		blob, encrypted, err := MakeCredential(c.ek, c.name, c.secret)
		if c.code == "" {
			if err != nil || len(blob) == 0 || len(encrypted) == 0 {
				t.Errorf("%s: %v", what, err)
			}
			continue
		}
		if !errors.Is(err, &tee.Error{Code: c.code}) || blob != nil || encrypted != nil {
			t.Errorf("%s: error %v, want %s", what, err, c.code)
		}
	}
}

// script answers every command with the same bytes, in pieces.
type script struct {
	answer []byte
	left   []byte
	piece  int
}

func (s *script) Write(b []byte) (int, error) {
	s.left = s.answer
	return len(b), nil
}

func (s *script) Read(b []byte) (int, error) {
	if len(s.left) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), s.piece)], s.left)
	s.left = s.left[n:]
	return n, nil
}

func (s *script) Close() error { return nil }

// TestBadTPM has a device that answers nonsense.
func TestBadTPM(t *testing.T) {
	for name, answer := range map[string][]byte{
		"nothing":        nil,
		"short header":   {0x80, 0x01, 0, 0, 0, 10},
		"short":          {0x80, 0x01, 0, 0, 0, 11, 0, 0, 0, 0},
		"long":           {0x80, 0x01, 0, 0, 0, 10, 0, 0, 0, 0, 0},
		"size zero":      {0x80, 0x01, 0, 0, 0, 0, 0, 0, 0, 0},
		"size overflows": {0x80, 0x01, 0xff, 0xff, 0xff, 0xf0, 0, 0, 0, 0},
		"error":          {0x80, 0x01, 0, 0, 0, 10, 0, 0, 1, 1},
		"other tag":      {0, 0xC4, 0, 0, 0, 10, 0, 0, 0, 0},
		"no parameters":  {0x80, 0x02, 0, 0, 0, 10, 0, 0, 0, 0},
		"no key":         {0x80, 0x02, 0, 0, 0, 20, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0},
	} {
		for _, piece := range []int{1, 4096} {
			a, err := NewAttester(&script{answer: answer, piece: piece}, Options{})
			if a != nil || !errors.Is(err, &tee.Error{Code: tee.CodeUnavailable}) {
				t.Errorf("%s: error %v, want unavailable", name, err)
			}
		}
	}
	for _, o := range []Options{{PCRs: []uint32{24}}, {PCRs: []uint32{}}, {AK: 0x40000001}, {AK: 0x82000000}} {
		if _, err := NewAttester(&script{}, o); !errors.Is(err, &tee.Error{Code: tee.CodeUnsupported}) {
			t.Errorf("%+v: error %v, want unsupported", o, err)
		}
	}
	d := &device{&script{answer: []byte{0x80, 0x01, 0, 0, 0, 32, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 11, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, piece: 99}}
	if v, err := d.readPCRs(Selection{eventlog.SHA256, []uint32{0}}); err == nil {
		t.Errorf("values %v of a TPM that gives none", v)
	}
}
