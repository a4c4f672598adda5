package azurepolicy_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest/azurepolicy"
)

type policySigner struct {
	key  crypto.Signer
	cert *x509.Certificate
}

func newSigner(t testing.TB, key crypto.Signer) policySigner {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "policy signer"}, NotAfter: time.Unix(1, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return policySigner{key, cert}
}

func ecKey(t testing.TB, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func rsaKey(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func (s policySigner) x5c() string {
	return `"x5c":["` + base64.StdEncoding.EncodeToString(s.cert.Raw) + `"]`
}

// sign makes an envelope with any header and payload.
func (s policySigner) sign(t testing.TB, alg, header, payload string) string {
	t.Helper()
	input := b64(header) + "." + b64(payload)
	h, opts := crypto.SHA256, crypto.SignerOpts(crypto.SHA256)
	if strings.HasSuffix(alg, "384") {
		h, opts = crypto.SHA384, crypto.SHA384
	}
	if strings.HasPrefix(alg, "PS") {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: h}
	}
	sum := sha256.Sum256([]byte(input))
	digest := sum[:]
	if h == crypto.SHA384 {
		d := sha512.Sum384([]byte(input))
		digest = d[:]
	}
	if k, ok := s.key.(*ecdsa.PrivateKey); ok {
		r, v, err := ecdsa.Sign(rand.Reader, k, digest)
		if err != nil {
			t.Fatal(err)
		}
		size := (k.Params().BitSize + 7) / 8
		sig := make([]byte, 2*size)
		r.FillBytes(sig[:size])
		v.FillBytes(sig[size:])
		return input + "." + b64(string(sig))
	}
	sig, err := s.key.Sign(rand.Reader, digest, opts)
	if err != nil {
		t.Fatal(err)
	}
	return input + "." + b64(string(sig))
}

const policyText = "version= 1.0; authorizationrules { => permit(); };"

func payload(text string) string { return `{"AttestationPolicy":"` + b64(text) + `"}` }

func TestSignedEnvelopes(t *testing.T) {
	p256, p384, r2048 := newSigner(t, ecKey(t, elliptic.P256())), newSigner(t, ecKey(t, elliptic.P384())), newSigner(t, rsaKey(t, 2048))
	for _, c := range []struct {
		alg string
		by  policySigner
	}{{"ES256", p256}, {"ES384", p384}, {"RS256", r2048}, {"RS384", r2048}, {"PS256", r2048}, {"PS384", r2048}} {
		jws := c.by.sign(t, c.alg, `{"alg":"`+c.alg+`","typ":"JWT",`+c.by.x5c()+`}`, payload(policyText))
		text, signed, err := azurepolicy.ParseEnvelope(jws, []*x509.Certificate{nil, p256.cert, p384.cert, r2048.cert})
		if err != nil || !signed || text != policyText {
			t.Errorf("%s: %q, %v, %v", c.alg, text, signed, err)
		}
		if _, signed, err := azurepolicy.ParseOpenEnvelope(jws); err != nil || !signed {
			t.Errorf("%s, open: %v, %v", c.alg, signed, err)
		}
		for name, signers := range map[string][]*x509.Certificate{"none": nil, "others": {newSigner(t, ecKey(t, elliptic.P256())).cert, nil, {}}} {
			if text, signed, err := azurepolicy.ParseEnvelope(jws, signers); !errors.Is(err, azurepolicy.ErrEnvelope) || signed || text != "" {
				t.Errorf("%s, %s: %q, %v, %v", c.alg, name, text, signed, err)
			}
		}
		for i := range []byte(jws) {
			b := []byte(jws)
			b[i] ^= 1
			if _, _, err := azurepolicy.ParseEnvelope(string(b), []*x509.Certificate{c.by.cert}); !errors.Is(err, azurepolicy.ErrEnvelope) {
				t.Fatalf("%s: byte %d altered: %v", c.alg, i, err)
			}
		}
	}
}

func TestUnsignedEnvelope(t *testing.T) {
	jws := b64(`{"alg":"none"}`) + "." + b64(payload(policyText)) + "."
	text, signed, err := azurepolicy.ParseOpenEnvelope(jws + "\n")
	if err != nil || signed || text != policyText {
		t.Errorf("%q, %v, %v", text, signed, err)
	}
	if _, _, err := azurepolicy.ParseEnvelope(jws, []*x509.Certificate{newSigner(t, ecKey(t, elliptic.P256())).cert}); err == nil || !strings.Contains(err.Error(), "not signed") {
		t.Errorf("isolated: %v", err)
	}
	// Each of the four forms in which clients encode the text; the text is chosen
	// to make them differ.
	const odd = "version= 1.0; // ÿþ?>~\nauthorizationrules { => permit(); };"
	for _, e := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		in := b64(`{"alg":"none"}`) + "." + b64(`{"AttestationPolicy":"`+e.EncodeToString([]byte(odd))+`"}`) + "."
		if text, _, err := azurepolicy.ParseOpenEnvelope(in); err != nil || text != odd {
			t.Errorf("%q, %v", text, err)
		}
	}
}

func TestRefusedEnvelopes(t *testing.T) {
	p256, p384, r2048 := newSigner(t, ecKey(t, elliptic.P256())), newSigner(t, ecKey(t, elliptic.P384())), newSigner(t, rsaKey(t, 2048))
	weak := newSigner(t, rsaKey(t, 1024))
	other := newSigner(t, ecKey(t, elliptic.P256()))
	none := func(header, payload, sig string) string { return b64(header) + "." + b64(payload) + "." + sig }
	ok := payload(policyText)
	es := func(header, payload string) string { return p256.sign(t, "ES256", header, payload) }
	for name, c := range map[string]struct{ in, want string }{
		"empty":                       {"", "three parts"},
		"two parts":                   {"a.b", "three parts"},
		"JSON form":                   {`{"payload":""}`, "three parts"},
		"padded":                      {b64(`{"alg":"none"}`) + "." + b64(ok) + "=.", "part 2 is not unpadded base64url"},
		"stray bits":                  {"eyJhbGciOiJub25lIn1." + b64(ok) + ".", "part 1 is not unpadded base64url"},
		"line break":                  {b64(`{"alg":"none"}`) + "." + b64(ok)[:8] + "\n" + b64(ok)[8:] + ".", "part 2 is not unpadded base64url"},
		"none with signature":         {none(`{"alg":"none"}`, ok, b64("x")), "alg is none beside"},
		"none with certificate":       {none(`{"alg":"none",`+p256.x5c()+`}`, ok, ""), "alg is none beside"},
		"None":                        {none(`{"alg":"None"}`, ok, ""), `alg "None"`},
		"NONE":                        {none(`{"alg":"NONE"}`, ok, ""), `alg "NONE"`},
		"no alg":                      {none(`{}`, ok, ""), `alg ""`},
		"null alg":                    {none(`{"alg":null}`, ok, ""), "wrong type"},
		"alg twice":                   {none(`{"alg":"none","alg":"ES256"}`, ok, ""), `member "alg" twice`},
		"HMAC with the public key":    {es(`{"alg":"HS256",`+p256.x5c()+`}`, ok), `alg "HS256"`},
		"RS256 with an EC key":        {es(`{"alg":"RS256",`+p256.x5c()+`}`, ok), "does not fit"},
		"ES384 with P-256":            {es(`{"alg":"ES384",`+p256.x5c()+`}`, ok), "does not fit"},
		"ES256 with P-384":            {p384.sign(t, "ES256", `{"alg":"ES256",`+p384.x5c()+`}`, ok), "does not fit"},
		"ES256 with RSA":              {r2048.sign(t, "RS256", `{"alg":"ES256",`+r2048.x5c()+`}`, ok), "does not fit"},
		"PS256 signed as RS256":       {r2048.sign(t, "RS256", `{"alg":"PS256",`+r2048.x5c()+`}`, ok), "does not verify"},
		"weak RSA":                    {weak.sign(t, "RS256", `{"alg":"RS256",`+weak.x5c()+`}`, ok), "1024 bits"},
		"no certificate":              {es(`{"alg":"ES256"}`, ok), "0 certificates"},
		"bad certificate":             {es(`{"alg":"ES256","x5c":["AAAA"]}`, ok), "not hold a certificate"},
		"base64url certificate":       {es(`{"alg":"ES256","x5c":["_-_-"]}`, ok), "base64 of DER"},
		"certificates are no list":    {es(`{"alg":"ES256","x5c":"AAAA"}`, ok), "wrong type"},
		"another's certificate":       {es(`{"alg":"ES256",`+other.x5c()+`}`, ok), "does not verify"},
		"jwk":                         {es(`{"alg":"ES256","jwk":{},`+p256.x5c()+`}`, ok), `member "jwk"`},
		"jku":                         {es(`{"alg":"ES256","jku":"https://x",`+p256.x5c()+`}`, ok), `member "jku"`},
		"crit":                        {es(`{"alg":"ES256","crit":["b64"],"b64":false,`+p256.x5c()+`}`, ok), "header member"},
		"Alg":                         {es(`{"Alg":"ES256",`+p256.x5c()+`}`, ok), `member "Alg"`},
		"no payload":                  {none(`{"alg":"none"}`, "", ""), "a reset sends"},
		"payload is text":             {none(`{"alg":"none"}`, policyText, ""), "payload: not JSON"},
		"payload is a list":           {none(`{"alg":"none"}`, "[]", ""), "not a JSON object"},
		"payload has more":            {none(`{"alg":"none"}`, `{"AttestationPolicy":"eA","x":1}`, ""), "the payload is not"},
		"other member":                {none(`{"alg":"none"}`, `{"attestationpolicy":"eA"}`, ""), "the payload is not"},
		"policy is null":              {none(`{"alg":"none"}`, `{"AttestationPolicy":null}`, ""), "the payload is not"},
		"member twice":                {none(`{"alg":"none"}`, `{"AttestationPolicy":"eA","AttestationPolicy":"eQ"}`, ""), "twice"},
		"member twice, spelled other": {none(`{"alg":"none"}`, `{"AttestationPolicy":"eA","\u0041ttestationPolicy":"eQ"}`, ""), "twice"},
		"policy in clear":             {none(`{"alg":"none"}`, `{"AttestationPolicy":"version= 1.0;"}`, ""), "not base64"},
		"mixed alphabets":             {none(`{"alg":"none"}`, `{"AttestationPolicy":"_-+/"}`, ""), "not base64"},
		"not UTF-8":                   {none(`{"alg":"none"}`, `{"AttestationPolicy":"_w"}`, ""), "UTF-8"},
		"nested":                      {none(`{"alg":"none"}`, payload(none(`{"alg":"none"}`, ok, "")), ""), "a JWS inside of a JWS"},
		"large policy":                {none(`{"alg":"none"}`, payload(strings.Repeat(" ", azurepolicy.MaxText+1)), ""), "at most 65536"},
		"large":                       {strings.Repeat("x", azurepolicy.MaxEnvelope+1), "at most"},
		"short signature":             {es(`{"alg":"ES256",`+p256.x5c()+`}`, ok)[:200], "part"},
	} {
		text, signed, err := azurepolicy.ParseOpenEnvelope(c.in)
		if !errors.Is(err, azurepolicy.ErrEnvelope) || !strings.Contains(err.Error(), c.want) && name != "short signature" || signed || text != "" {
			t.Errorf("%s: got %q, %v, %v\nwant %s", name, text, signed, err, c.want)
		}
		if _, _, err := azurepolicy.ParseEnvelope(c.in, []*x509.Certificate{p256.cert, p384.cert, r2048.cert, weak.cert}); !errors.Is(err, azurepolicy.ErrEnvelope) {
			t.Errorf("%s, isolated: got %v", name, err)
		}
	}
}
