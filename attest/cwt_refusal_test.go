package attest_test

import (
	"bytes"
	"crypto/elliptic"
	"strings"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/tee"
	"github.com/fxamacker/cbor/v2"
)

func TestCWTEnvelopeRefused(t *testing.T) {
	w := newCWTWorld(t)
	stranger, other := newKey(t, elliptic.P256()), newKey(t, elliptic.P384())
	w.verify.Keys = must[attest.KeySet](t)(attest.NewKeySet(&w.key.PublicKey, &other.PublicKey))
	otherKid := must[[]byte](t)(decode64(w.verify.Keys.IDs()[1]))
	header, body := w.header(t), openCOSE(t, w.token).Payload
	sig := cwtSignature(t, w.key, header, body)
	tagged := func(v any) []byte { return append([]byte{0xd8, 0x3d, 0xd2}, encodeCBOR(t, v)...) }
	with := func(m map[any]any) []byte { return forgeCWT(t, w.key, encodeCBOR(t, m), body) }
	// replaced rewrites the bytes of a token, whose signature stays good.
	replaced := func(old, replacement string) []byte {
		if bytes.Count(w.token, []byte(old)) != 1 {
			t.Fatalf("%x is not in the token once", old)
		}
		return bytes.Replace(w.token, []byte(old), []byte(replacement), 1)
	}
	indefinite := append(append([]byte{0xd8, 0x3d, 0xd2, 0x9f}, w.token[4:]...), 0xff)
	cases := []struct {
		name  string
		token []byte
		codes []tee.Code
	}{
		{"empty", nil, []tee.Code{attest.CodeTokenMalformed}},
		{"a JWT", []byte(newWorld(t).token), []tee.Code{attest.CodeTokenMalformed}},
		{"base64", []byte(b64(w.token)), []tee.Code{attest.CodeTokenMalformed}},
		{"no tag 61", w.token[2:], []tee.Code{attest.CodeTokenMalformed}},
		{"no tags", w.token[3:], []tee.Code{attest.CodeTokenMalformed}},
		{"tag 61 alone", append([]byte{0xd8, 0x3d}, w.token[3:]...), []tee.Code{attest.CodeTokenMalformed}},
		{"tag 61 twice", append([]byte{0xd8, 0x3d}, w.token...), []tee.Code{attest.CodeTokenMalformed}},
		{"tag 61 in three bytes", append([]byte{0xd9, 0x00, 0x3d}, w.token[2:]...), []tee.Code{attest.CodeTokenMalformed}},
		{"COSE_Mac0", append([]byte{0xd8, 0x3d, 0xd1}, w.token[3:]...), []tee.Code{attest.CodeTokenMalformed}},
		{"COSE_Sign", append([]byte{0xd8, 0x3d, 0xd8, 0x62}, w.token[3:]...), []tee.Code{attest.CodeTokenMalformed}},
		{"self-described", append([]byte{0xd9, 0xd9, 0xf7}, w.token...), []tee.Code{attest.CodeTokenMalformed}},
		{"too long", make([]byte, attest.MaxToken+1), []tee.Code{attest.CodeTokenMalformed}},
		{"a byte behind it", append(bytes.Clone(w.token), 0), []tee.Code{attest.CodeTokenMalformed}},
		{"a byte less", w.token[:len(w.token)-1], []tee.Code{attest.CodeTokenMalformed}},
		{"indefinite array", indefinite, []tee.Code{attest.CodeTokenMalformed}},
		{"long length", replaced("\xd2\x84\x58\x26", "\xd2\x84\x59\x00\x26"), []tee.Code{attest.CodeTokenMalformed}},
		{"three parts", tagged([]any{header, map[int]int{}, body}), []tee.Code{attest.CodeTokenMalformed}},
		{"five parts", tagged([]any{header, map[int]int{}, body, sig, sig}), []tee.Code{attest.CodeTokenMalformed}},
		{"a map", tagged(map[int]any{0: header}), []tee.Code{attest.CodeTokenMalformed}},
		{"unprotected header", tagged([]any{header, map[int]any{4: w.kid}, body, sig}), []tee.Code{attest.CodeTokenMalformed}},
		{"unprotected number", tagged([]any{header, map[int]int{1: -7}, body, sig}), []tee.Code{attest.CodeTokenMalformed}},
		{"unprotected text", tagged([]any{header, map[string]string{"a": "b"}, body, sig}), []tee.Code{attest.CodeTokenMalformed}},
		{"null unprotected header", tagged([]any{header, nil, body, sig}), []tee.Code{attest.CodeTokenMalformed}},
		{"detached payload", tagged([]any{header, map[int]int{}, nil, sig}), []tee.Code{attest.CodeTokenMalformed}},
		{"payload is a list of bytes", tagged([]any{header, map[int]int{}, []any{1, 2}, sig}), []tee.Code{attest.CodeTokenMalformed}},
		{"payload is a map", tagged([]any{header, map[int]int{}, cbor.RawMessage(body), sig}), []tee.Code{attest.CodeTokenMalformed}},
		{"no header", forgeCWT(t, w.key, nil, body), []tee.Code{attest.CodeTokenMalformed}},
		{"null header", with(nil), []tee.Code{attest.CodeTokenMalformed}},
		{"empty header", with(map[any]any{}), []tee.Code{attest.CodeTokenAlgorithm, attest.CodeTokenKey}},
		{"header is a list", forgeCWT(t, w.key, encodeCBOR(t, []int{1}), body), []tee.Code{attest.CodeTokenMalformed}},
		{"header label twice", forgeCWT(t, w.key, append([]byte{0xa3, 0x01, 0x26}, header[1:]...), body), []tee.Code{attest.CodeTokenMalformed}},
		{"header out of order", forgeCWT(t, w.key, append(append([]byte{0xa2}, header[3:]...), header[1:3]...), body), []tee.Code{attest.CodeTokenMalformed}},
		{"no alg", with(map[any]any{4: w.kid}), []tee.Code{attest.CodeTokenAlgorithm}},
		{"alg reserved", with(map[any]any{1: 0, 4: w.kid}), []tee.Code{attest.CodeTokenAlgorithm}},
		{"alg HS256", with(map[any]any{1: 5, 4: w.kid}), []tee.Code{attest.CodeTokenAlgorithm}},
		{"alg PS256", with(map[any]any{1: -37, 4: w.kid}), []tee.Code{attest.CodeTokenAlgorithm}},
		{"alg ESP256", with(map[any]any{1: -9, 4: w.kid}), []tee.Code{attest.CodeTokenAlgorithm}},
		{"alg is a text", with(map[any]any{1: "ES256", 4: w.kid}), []tee.Code{attest.CodeTokenAlgorithm}},
		{"alg of another key", with(map[any]any{1: -35, 4: w.kid}), []tee.Code{attest.CodeTokenAlgorithm}},
		{"kid of another key", with(map[any]any{1: -7, 4: otherKid}), []tee.Code{attest.CodeTokenAlgorithm}},
		{"no kid", with(map[any]any{1: -7}), []tee.Code{attest.CodeTokenKey}},
		{"empty kid", with(map[any]any{1: -7, 4: []byte{}}), []tee.Code{attest.CodeTokenKey}},
		{"kid is a text", with(map[any]any{1: -7, 4: b64(w.kid)}), []tee.Code{attest.CodeTokenKey}},
		{"foreign kid", with(map[any]any{1: -7, 4: make([]byte, 32)}), []tee.Code{attest.CodeTokenKey}},
		{"crit", with(map[any]any{1: -7, 2: []int{99}, 4: w.kid}), []tee.Code{attest.CodeTokenMalformed}},
		{"content type", with(map[any]any{1: -7, 3: "application/eat+cwt", 4: w.kid}), []tee.Code{attest.CodeTokenMalformed}},
		{"x5chain", with(map[any]any{1: -7, 4: w.kid, 33: []byte("evil")}), []tee.Code{attest.CodeTokenMalformed}},
		{"claims in the header", with(map[any]any{1: -7, 4: w.kid, 15: map[int]string{1: "evil"}}), []tee.Code{attest.CodeTokenMalformed}},
		{"text label", with(map[any]any{1: -7, 4: w.kid, "alg": "none"}), []tee.Code{attest.CodeTokenMalformed}},
		{"signed by a stranger", forgeCWT(t, stranger, header, body), []tee.Code{attest.CodeTokenSignature}},
		{"signature of zeros", tagged([]any{header, map[int]int{}, body, make([]byte, 64)}), []tee.Code{attest.CodeTokenSignature}},
		{"signature cut", tagged([]any{header, map[int]int{}, body, sig[:63]}), []tee.Code{attest.CodeTokenSignature}},
		{"no signature", tagged([]any{header, map[int]int{}, body, []byte{}}), []tee.Code{attest.CodeTokenSignature}},
		{"signature of another header", tagged([]any{header, map[int]int{}, body, cwtSignature(t, w.key, nil, body)}), []tee.Code{attest.CodeTokenSignature}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			res, err := w.verify.VerifyCWT(c.token, at)
			wantCodes(t, err, attest.ErrToken, c.codes...)
			if res != nil {
				t.Error("a result beside an error")
			}
			if strings.Contains(err.Error(), "evil") {
				t.Errorf("repeats what an unproven token says: %v", err)
			}
		})
	}
	if _, err := w.verify.Verify(string(w.token), at); err == nil {
		t.Error("a CWT was accepted as a JWT")
	}
}

func TestCWTBodyRefused(t *testing.T) {
	w := newCWTWorld(t)
	type body = map[any]any
	n := func(i int64) any {
		if i < 0 {
			return i
		}
		return uint64(i)
	}
	in := func(b body, path ...any) body {
		for _, key := range path {
			b = b[key].(body)
		}
		return b
	}
	device := func(b body) body { return in(b, n(266), "cpu0") }
	own := func(b body) body { return in(b, n(-77000)) }
	tree := func(b body) body { return in(b, n(-77000), n(2)) }
	curve := func(b body) body {
		return body{n(1): body{n(1): n(2), n(-1): n(1), n(-2): make([]byte, 32), n(-3): make([]byte, 32)}}
	}
	malformed := []struct {
		name   string
		change func(body)
	}{
		{"no issuer", func(b body) { delete(b, n(1)) }},
		{"issuer is bytes", func(b body) { b[n(1)] = []byte("https://issuer.example") }},
		{"audience list", func(b body) { b[n(3)] = []string{"a"} }},
		{"audience null", func(b body) { b[n(3)] = nil }},
		{"empty audience", func(b body) { b[n(3)] = "" }},
		{"exp in milliseconds", func(b body) { b[n(4)] = at.UnixMilli() }},
		{"exp a float", func(b body) { b[n(4)] = float64(at.Unix()) + 0.5 }},
		{"exp a whole float", func(b body) { b[n(4)] = float64(at.Unix() + 60) }},
		{"exp as text", func(b body) { b[n(4)] = "2030-01-01" }},
		{"exp beyond int64", func(b body) { b[n(4)] = uint64(1<<64 - 1) }},
		{"exp tagged", func(b body) { b[n(4)] = cbor.Tag{Number: 1, Content: at.Unix() + 60} }},
		{"negative iat", func(b body) { b[n(6)] = -1 }},
		{"no exp", func(b body) { delete(b, n(4)) }},
		{"no nbf", func(b body) { delete(b, n(5)) }},
		{"no cti", func(b body) { delete(b, n(7)) }},
		{"cti as text", func(b body) { b[n(7)] = "id" }},
		{"empty cti", func(b body) { b[n(7)] = []byte{} }},
		{"long cti", func(b body) { b[n(7)] = make([]byte, 65) }},
		{"short nonce", func(b body) { b[n(10)] = make([]byte, 7) }},
		{"long nonce", func(b body) { b[n(10)] = make([]byte, 65) }},
		{"list of nonces", func(b body) { b[n(10)] = [][]byte{make([]byte, 8), make([]byte, 8)} }},
		{"no verifier", func(b body) { delete(b, n(1004)) }},
		{"verifier is a text", func(b body) { b[n(1004)] = "cloister" }},
		{"no status", func(b body) { delete(b, n(1000)) }},
		{"status nicer than the device's", func(b body) { device(b)[n(1000)] = 32 }},
		{"no device", func(b body) { b[n(266)] = body{} }},
		{"devices are a list", func(b body) { b[n(266)] = []int{1} }},
		{"device is a token", func(b body) { in(b, n(266))["cpu0"] = []byte{1} }},
		{"a second device", func(b body) { in(b, n(266))["gpu0"] = device(b) }},
		{"device by number", func(b body) { b[n(266)] = body{n(0): device(b)} }},
		{"unknown claim on the device", func(b body) { device(b)[n(-70002)] = body{"akpub": []byte{1}} }},
		{"unknown text on the device", func(b body) { device(b)["x"] = 1 }},
		{"unknown part of the vector", func(b body) { in(device(b), n(1001))[n(2)] = 96 }},
		{"part of the vector out of range", func(b body) { in(device(b), n(1001))[n(0)] = 1 << 20 }},
		{"part of the vector of 0", func(b body) { in(device(b), n(1001))[n(0)] = 0 }},
		{"part of the vector a text", func(b body) { in(device(b), n(1001))[n(0)] = "2" }},
		{"vector null", func(b body) { device(b)[n(1001)] = nil }},
		{"no vector", func(b body) { delete(device(b), n(1001)) }},
		{"status not a tier", func(b body) { device(b)[n(1000)], b[n(1000)] = 3, 3 }},
		{"status a text", func(b body) { device(b)[n(1000)], b[n(1000)] = "affirming", "affirming" }},
		{"status other than the vector", func(b body) { device(b)[n(1000)], b[n(1000)] = 0, 0 }},
		{"status nicer than the claims", func(b body) { tree(b)["tcb_status"] = "Revoked" }},
		{"policy a text", func(b body) { device(b)[n(1003)] = "sha256:" + strings.Repeat("ab", 32) }},
		{"no policy in the list", func(b body) { device(b)[n(1003)] = []string{} }},
		{"two policies", func(b body) {
			device(b)[n(1003)] = []string{"sha256:" + strings.Repeat("ab", 32), "sha256:" + strings.Repeat("cd", 32)}
		}},
		{"policy id", func(b body) { device(b)[n(1003)] = []string{"policy 1"} }},
		{"policy is a number", func(b body) { device(b)[n(1003)] = []int{1} }},
		{"no claims of ours", func(b body) { delete(b, n(-77000)) }},
		{"no simulated", func(b body) { delete(own(b), n(0)) }},
		{"simulated is a number", func(b body) { own(b)[n(0)] = 0 }},
		{"no debug", func(b body) { delete(own(b), n(1)) }},
		{"no tree", func(b body) { delete(own(b), n(2)) }},
		{"tree is a text", func(b body) { own(b)[n(2)] = "all good" }},
		{"tree with a number as name", func(b body) { tree(b)[n(1)] = 1 }},
		{"tree with capitals", func(b body) { tree(b)["SVN"] = 1 }},
		{"tree with bytes", func(b body) { tree(b)["measurement"] = []byte{1} }},
		{"tree with bytes in a list", func(b body) { tree(b)["sev_snp"] = []any{1, []byte{1}} }},
		{"tree with a simple value", func(b body) { tree(b)["sev_snp"] = cbor.SimpleValue(99) }},
		{"tree too deep", func(b body) {
			var deep any = true
			for range 20 {
				deep = []any{deep}
			}
			tree(b)["sev_snp"] = deep
		}},
		{"simulated only in the tree", func(b body) { tree(b)["simulated"] = true }},
		{"debug only in the tree", func(b body) { tree(b)["debug"] = true }},
		{"software that is not simulated", func(b body) { tree(b)["tee"] = "software" }},
		{"unknown TEE", func(b body) { tree(b)["tee"] = "magic" }},
		{"no TEE", func(b body) { delete(tree(b), "tee") }},
		{"no findings", func(b body) { delete(own(b), n(3)) }},
		{"finding is a text", func(b body) { own(b)[n(3)] = []string{"x"} }},
		{"finding without a code", func(b body) { own(b)[n(3)] = []any{body{n(1): "x"}} }},
		{"finding with more", func(b body) { own(b)[n(3)] = []any{body{n(0): "x", n(1): "x", n(2): "x"}} }},
		{"short digest", func(b body) { own(b)[n(4)] = make([]byte, 31) }},
		{"digest in hex", func(b body) { own(b)[n(5)] = strings.Repeat("ab", 32) }},
		{"unknown claim of ours", func(b body) { own(b)[n(7)] = 1 }},
		{"cnf with a kid", func(b body) { b[n(8)] = body{n(3): []byte{1}} }},
		{"cnf with nothing", func(b body) { b[n(8)] = body{} }},
		{"cnf off its curve", func(b body) { b[n(8)] = curve(b) }},
		{"cnf of another type", func(b body) { b[n(8)] = curve(b); in(b, n(8), n(1))[n(1)] = 1 }},
		{"cnf of another curve", func(b body) { b[n(8)] = curve(b); in(b, n(8), n(1))[n(-1)] = 8 }},
		{"cnf with a private key", func(b body) { b[n(8)] = curve(b); in(b, n(8), n(1))[n(-4)] = make([]byte, 32) }},
		{"cnf with a compressed point", func(b body) { b[n(8)] = curve(b); in(b, n(8), n(1))[n(-3)] = true }},
	}
	for _, c := range malformed {
		t.Run(c.name, func(t *testing.T) {
			res, err := w.verify.VerifyCWT(w.signed(t, c.change), at)
			wantCodes(t, err, attest.ErrToken, attest.CodeTokenMalformed)
			if res != nil {
				t.Error("a result beside an error")
			}
		})
	}
	for _, c := range []struct {
		name   string
		change func(body)
		code   tee.Code
	}{
		{"issuer", func(b body) { b[n(1)] = "https://evil.example" }, attest.CodeTokenIssuer},
		{"audience", func(b body) { b[n(3)] = "somebody else" }, attest.CodeTokenAudience},
		{"no profile", func(b body) { delete(b, n(265)) }, attest.CodeTokenProfile},
		{"profile of a JWT", func(b body) { b[n(265)] = attest.EARProfile }, attest.CodeTokenProfile},
		{"profile list", func(b body) { b[n(265)] = []string{attest.EARProfileCWT} }, attest.CodeTokenProfile},
		{"expired", func(b body) { b[n(6)], b[n(4)] = at.Unix()-60, at.Unix() }, attest.CodeTokenExpired},
		{"not yet", func(b body) { b[n(5)] = at.Unix() + 1 }, attest.CodeTokenFuture},
		{"issued later", func(b body) { b[n(6)] = at.Unix() + 1 }, attest.CodeTokenFuture},
		{"lives too long", func(b body) { b[n(4)] = at.Add(attest.DefaultMaxLifetime).Unix() + 1 }, attest.CodeTokenLifetime},
		{"another policy", func(b body) { device(b)[n(1003)] = []string{"sha256:" + strings.Repeat("ab", 32)} }, attest.CodeTokenPolicy},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := w.verify.VerifyCWT(w.signed(t, c.change), at)
			wantCodes(t, err, attest.ErrToken, c.code)
		})
	}
	t.Run("unknown claims are ignored", func(t *testing.T) {
		token := w.signed(t, func(b body) { b["new claim"], b[n(-99999)], b[n(256)] = []byte{1}, body{n(1): nil}, []any{1.5} })
		if _, err := w.verify.VerifyCWT(token, at); err != nil {
			t.Error(err)
		}
	})
}

// A body with a good signature must still have the one encoding.
func TestCWTBodyHasOneEncoding(t *testing.T) {
	w := newCWTWorld(t)
	body := openCOSE(t, w.token).Payload
	replaced := func(old, replacement string) []byte {
		if bytes.Count(body, []byte(old)) != 1 {
			t.Fatalf("%x is not in the body once", old)
		}
		return bytes.Replace(body, []byte(old), []byte(replacement), 1)
	}
	for name, b := range map[string][]byte{
		"empty":               {},
		"null":                {0xf6},
		"a list":              {0x80},
		"a byte behind it":    append(bytes.Clone(body), 0),
		"indefinite map":      append(append([]byte{0xbf}, body[1:]...), 0xff),
		"claim twice":         append([]byte{body[0] + 1, 0x01, 0x60}, body[1:]...),
		"key in two bytes":    replaced("\x01\x76https", "\x18\x01\x76https"),
		"number in two bytes": replaced("\x63svn\x03", "\x63svn\x18\x03"),
		"text in pieces":      replaced("\x63svn\x03", "\x7f\x63svn\xff\x03"),
		"undefined":           replaced("\x63svn\x03", "\x63svn\xf7"),
		"long float":          replaced("\x63svn\x03", "\x63svn\xfa\x3f\xc0\x00\x00"),
		"not a number":        replaced("\x63svn\x03", "\x63svn\xf9\x7e\x00"),
		"tag":                 replaced("\x63svn\x03", "\x63svn\xc1\x03"),
		"not UTF-8":           replaced("\x63svn\x03", "\x63sv\xff\x03"),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.verify.VerifyCWT(forgeCWT(t, w.key, w.header(t), b), at)
			wantCodes(t, err, attest.ErrToken, attest.CodeTokenMalformed)
		})
	}
}

// What the relying party asks for is asked of both forms; the table of JWTs has
// the rest.
func TestCWTVerifierRefuses(t *testing.T) {
	w := newCWTWorld(t)
	bearer := newKey(t, elliptic.P256())
	for name, c := range map[string]struct {
		set  func(*attest.TokenVerifier)
		at   time.Time
		code tee.Code
	}{
		"zero value":        {func(v *attest.TokenVerifier) { *v = attest.TokenVerifier{} }, at, attest.CodeTokenConfig},
		"no time":           {func(*attest.TokenVerifier) {}, time.Time{}, attest.CodeTokenConfig},
		"audience":          {func(v *attest.TokenVerifier) { v.Audience, v.AllowNoAudience = "vault", false }, at, attest.CodeTokenAudience},
		"policy":            {func(v *attest.TokenVerifier) { v.Policies = [][32]byte{{1}} }, at, attest.CodeTokenPolicy},
		"stale":             {func(v *attest.TokenVerifier) { v.MaxAge = time.Second }, at.Add(2 * time.Second), attest.CodeTokenStale},
		"expired":           {func(*attest.TokenVerifier) {}, at.Add(attest.DefaultTokenLifetime), attest.CodeTokenExpired},
		"nonce":             {func(v *attest.TokenVerifier) { v.Nonce = make([]byte, 8) }, at, attest.CodeTokenNonce},
		"bound to no key":   {func(v *attest.TokenVerifier) { v.Confirm = &bearer.PublicKey }, at, attest.CodeTokenBinding},
		"another key's set": {func(v *attest.TokenVerifier) { v.Keys = newIssuer(t, nil).JWKS() }, at, attest.CodeTokenKey},
	} {
		t.Run(name, func(t *testing.T) {
			v := w.verify
			c.set(&v)
			_, err := v.VerifyCWT(w.token, c.at)
			wantCodes(t, err, attest.ErrToken, c.code)
		})
	}
}
