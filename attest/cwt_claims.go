package attest

import (
	"encoding/hex"
	"math"

	"github.com/cloister-cc/cloister/tee"
)

// Keys of claims: RFC 8392 section 4, RFC 8747 section 3.1, RFC 9711, and those
// that draft-ietf-rats-ear-04 asks IANA for.
const (
	cwtIssuer    = 1
	cwtAudience  = 3
	cwtExpires   = 4
	cwtNotBefore = 5
	cwtIssuedAt  = 6
	cwtID        = 7 // bytes, where a JWT has text
	cwtConfirm   = 8
	cwtNonce     = 10
	cwtProfile   = 265
	cwtSubmods   = 266
	cwtStatus    = 1000
	cwtVector    = 1001
	cwtPolicies  = 1003
	cwtVerifier  = 1004
	// cwtCloister holds all that EAR has no words for. Integers below -65536 are
	// for private use (RFC 8392 section 9.1.1), and an extension of EAR must be a
	// map: simulated and debug are in it, not beside it as in a JWT.
	cwtCloister = -77000
)

// Keys inside claims.
const (
	verifierDeveloperKey = 0 // AR4SI
	verifierBuildKey     = 1

	vectorIdentity = 0 // AR4SI
	vectorHardware = 4
	vectorOpaque   = 5

	confirmKey = 1 // COSE_Key (RFC 8747 section 3.2)
	keyType    = 1 // RFC 9052 section 7.1
	keyTypeEC2 = 2 // RFC 9053 section 7.1
	keyCurve   = -1
	keyX       = -2
	keyY       = -3

	ownSimulated    = 0
	ownDebug        = 1
	ownClaims       = 2 // the claims tree: text keys, as in a JWT
	ownFindings     = 3
	ownEvidence     = 4 // SHA-256, bytes
	ownEndorsements = 5 // SHA-256, bytes
	ownVerifiedAt   = 6

	findingCode   = 0
	findingDetail = 1
)

// maxCWTID bounds the cti, which is 16 bytes here.
const maxCWTID = 64

// tierOf is a status as AR4SI numbers it.
func tierOf(s Status) (int64, bool) {
	for n, known := range tiers() {
		if s == known {
			return n, true
		}
	}
	return 0, false
}

func tiers() map[int64]Status {
	return map[int64]Status{0: StatusNone, 2: StatusAffirming, 32: StatusWarning, 96: StatusContraindicated}
}

// cwtOf returns the CBOR form of a body. c was issued here: the only thing that
// can be wrong with it is what the error says.
func cwtOf(c *earClaims) (map[int64]any, error) {
	var w cwtCodec
	device := c.Devices[deviceName]
	status, ok := tierOf(device.Status)
	w.must(ok)
	m := map[int64]any{
		cwtIssuer: c.Issuer, cwtExpires: *c.Expires, cwtNotBefore: *c.NotBefore, cwtIssuedAt: *c.IssuedAt,
		cwtID: w.decoded(c.ID), cwtProfile: EARProfileCWT, cwtStatus: status,
		cwtVerifier: map[int64]any{verifierDeveloperKey: c.VerifierID.Developer, verifierBuildKey: c.VerifierID.Build},
		cwtSubmods:  map[string]any{deviceName: cwtDevice(device, status)},
		cwtCloister: map[int64]any{
			ownSimulated: *c.Simulated, ownDebug: *c.Debug, ownClaims: map[string]any(c.Cloister.Claims), ownFindings: cwtFindings(c.Cloister.Findings),
			ownEvidence: w.unhexed(c.Cloister.EvidenceDigest), ownEndorsements: w.unhexed(c.Cloister.EndorsementsDigest),
			ownVerifiedAt: c.Cloister.VerifiedAt,
		},
	}
	if c.Audience != nil {
		m[cwtAudience] = *c.Audience
	}
	if c.Nonce != nil {
		m[cwtNonce] = w.decoded(*c.Nonce)
	}
	if c.Confirm != nil {
		key := map[int64]any{keyType: keyTypeEC2, keyX: w.decoded(c.Confirm.JWK.X), keyY: w.decoded(c.Confirm.JWK.Y)}
		for _, a := range algorithms() {
			if a.crv == c.Confirm.JWK.Crv {
				key[keyCurve] = a.coseCurve
			}
		}
		m[cwtConfirm] = map[int64]any{confirmKey: key}
	}
	return m, w.err()
}

func cwtDevice(a earAppraisal, status int64) map[int64]any {
	m := map[int64]any{cwtStatus: status}
	if a.PolicyID != "" {
		m[cwtPolicies] = []string{a.PolicyID}
	}
	if a.Vector != nil {
		v := map[int64]any{}
		for key, value := range map[int64]int{vectorIdentity: a.Vector.InstanceIdentity, vectorHardware: a.Vector.Hardware, vectorOpaque: a.Vector.RuntimeOpaque} {
			if value != 0 {
				v[key] = value
			}
		}
		m[cwtVector] = v
	}
	return m
}

func cwtFindings(findings []tee.Finding) []any {
	out := make([]any, len(findings))
	for i, f := range findings {
		out[i] = map[int64]any{findingCode: string(f.Code), findingDetail: f.Detail}
	}
	return out
}

// parseCWT reads the CBOR body of a token whose signature has been verified.
// Claims that it does not know are ignored, as RFC 8392 section 3 has it, except
// where the ignored could be what speaks against the device or its bearer.
func parseCWT(raw []byte) (c earClaims, r refusals) {
	var m map[any]any
	if err := decodeCBOR(raw, &m); err != nil {
		r.bad("claims", "one CBOR map in deterministic encoding")
		return c, r
	}
	if m[uint64(cwtProfile)] != EARProfileCWT {
		r.add(CodeTokenProfile, "eat_profile", EARProfileCWT, "another", "the token is of another kind or version")
		return c, r
	}
	var w cwtCodec
	c.Profile = EARProfileCWT
	c.Issuer, c.Audience = w.text(m, cwtIssuer), optional(m, cwtAudience, w.text)
	c.IssuedAt, c.NotBefore, c.Expires = w.date(m, cwtIssuedAt), w.date(m, cwtNotBefore), w.date(m, cwtExpires)
	c.ID = encode64(w.bytes(m, cwtID, 1, maxCWTID))
	if nonce := optional(m, cwtNonce, w.nonce); nonce != nil {
		text := encode64(*nonce)
		c.Nonce = &text
	}
	c.Confirm = w.confirmation(m)
	verifier := w.members(m, cwtVerifier)
	c.VerifierID = &verifierID{Developer: w.text(verifier, verifierDeveloperKey), Build: w.text(verifier, verifierBuildKey)}
	c.Devices = w.devices(m)
	w.cloister(m, &c)
	if w.err() != nil {
		r.bad("claims", "the claims of an EAR of this issuer")
	}
	return c, r
}

// devices reads the appraisals and compares the token's own status, which is
// there for whoever reads only that, with the device's.
func (w *cwtCodec) devices(m map[any]any) devices {
	out := devices{}
	all := w.members(m, cwtSubmods)
	for name, device := range all {
		text, ok := name.(string)
		w.must(ok)
		fields, ok := device.(map[any]any)
		w.must(ok)
		status := w.int(fields, cwtStatus)
		w.must(status == w.int(m, cwtStatus))
		var a earAppraisal
		a.Status, ok = tiers()[status]
		w.must(ok)
		if has(fields, cwtVector) {
			vector := w.members(fields, cwtVector)
			a.Vector = &trustVector{
				InstanceIdentity: w.value(vector, vectorIdentity), Hardware: w.value(vector, vectorHardware), RuntimeOpaque: w.value(vector, vectorOpaque),
			}
			w.nothingLeft(vector, vectorIdentity, vectorHardware, vectorOpaque)
		}
		if has(fields, cwtPolicies) {
			a.PolicyID = w.policy(fields)
		}
		w.nothingLeft(fields, cwtStatus, cwtVector, cwtPolicies)
		out[text] = a
	}
	return out
}

// policy reads a list of policies, of which there is one here.
func (w *cwtCodec) policy(m map[any]any) string {
	list := take[[]any](w, m, cwtPolicies)
	if len(list) != 1 {
		w.must(false)
		return ""
	}
	id, _ := list[0].(string)
	w.must(id != "")
	return id
}

// value reads a component of a vector; one that makes no statement is left out.
func (w *cwtCodec) value(m map[any]any, key int64) int {
	if !has(m, key) {
		return 0
	}
	n := w.int(m, key)
	w.must(n != 0 && n >= math.MinInt8 && n <= math.MaxInt8)
	return int(n)
}

// confirmation reads the key that the attested code holds, nil for none.
func (w *cwtCodec) confirmation(m map[any]any) *confirmation {
	if !has(m, cwtConfirm) {
		return nil
	}
	cnf := w.members(m, cwtConfirm)
	key := w.members(cnf, confirmKey)
	w.nothingLeft(cnf, confirmKey)
	w.nothingLeft(key, keyType, keyCurve, keyX, keyY)
	w.must(w.int(key, keyType) == keyTypeEC2)
	curve := w.int(key, keyCurve)
	for _, a := range algorithms() {
		if a.coseCurve == curve {
			return &confirmation{JWK: &jwk{Kty: "EC", Crv: a.crv, X: encode64(w.bytes(key, keyX, a.size, a.size)), Y: encode64(w.bytes(key, keyY, a.size, a.size))}}
		}
	}
	w.must(false)
	return nil
}

func (w *cwtCodec) cloister(m map[any]any, c *earClaims) {
	own := w.members(m, cwtCloister)
	simulated, debug := w.bool(own, ownSimulated), w.bool(own, ownDebug)
	c.Simulated, c.Debug = &simulated, &debug
	value, ok := textKeys(own[uint64(ownClaims)])
	tree, isMap := value.(map[string]any)
	w.must(ok && isMap)
	c.Cloister = &cloisterClaims{
		Claims: tree, Findings: []tee.Finding{},
		EvidenceDigest: hex.EncodeToString(w.bytes(own, ownEvidence, 32, 32)), EndorsementsDigest: hex.EncodeToString(w.bytes(own, ownEndorsements, 32, 32)),
		VerifiedAt: w.int(own, ownVerifiedAt),
	}
	for _, f := range take[[]any](w, own, ownFindings) {
		fields, ok := f.(map[any]any)
		w.must(ok)
		c.Cloister.Findings = append(c.Cloister.Findings, tee.Finding{Code: tee.Code(w.text(fields, findingCode)), Detail: w.text(fields, findingDetail)})
		w.nothingLeft(fields, findingCode, findingDetail)
	}
	w.nothingLeft(own, ownSimulated, ownDebug, ownClaims, ownFindings, ownEvidence, ownEndorsements, ownVerifiedAt)
}
