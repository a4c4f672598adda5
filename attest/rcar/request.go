package rcar

import (
	"crypto/ecdsa"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/tee"
)

// digestSize is the size of SHA-384, which fills the beginning of the report data.
const digestSize = sha512.Size384

// version is a version of the protocol, of those that are spoken here.
type version uint8

const (
	flat      version = iota + 1 // 0.1.1 and 0.2.0
	composite                    // 0.4.0
)

func versionOf(s string) (version, bool) {
	switch s {
	case "0.4.0":
		return composite, true
	case "0.1.1", "0.2.0":
		return flat, true
	default:
		return 0, false
	}
}

// memberName is how the protocol, and the Rust structures in it, spell members.
// OTHER is a kind of certificate; see [snpCertificate].
func memberName(s string) bool {
	return s == "OTHER" || s != "" && !slices.ContainsFunc([]byte(s), func(c byte) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-'
	})
}

func decode(b []byte, v any) error { return attest.DecodeStrictNamed(b, v, memberName) }

// parseRequest reads what a guest says of itself first.
func parseRequest(b []byte) (*session, error) {
	var request struct {
		Version string          `json:"version"`
		TEE     string          `json:"tee"`
		Extra   json.RawMessage `json:"extra-params"` // lists hashes, of which SHA-384 always is one
	}
	if err := decode(b, &request); err != nil {
		return nil, refuse("want a Request: version, tee and extra-params")
	}
	v, ok := versionOf(request.Version)
	if !ok {
		return nil, refuse("version: want 0.4.0, 0.2.0 or 0.1.1 of the protocol")
	}
	t, err := teeOf(request.TEE)
	if err != nil {
		return nil, err
	}
	return &session{tee: t, version: v}, nil
}

// attestation is what is taken out of an Attestation.
type attestation struct {
	evidence   tee.Evidence
	key        *ecdsa.PublicKey
	reportData [64]byte
}

// wireAttestation is an Attestation in both forms.
type wireAttestation struct {
	InitData    json.RawMessage `json:"init-data"` // not read, see the package comment
	RuntimeData *struct {
		Nonce string          `json:"nonce"`
		Key   json.RawMessage `json:"tee-pubkey"`
	} `json:"runtime-data"`
	Key      json.RawMessage `json:"tee-pubkey"`
	Evidence json.RawMessage `json:"tee-evidence"`
}

// parseAttestation reads the evidence and works out what it must be bound to.
func (s *session) parseAttestation(b []byte) (*attestation, error) {
	var w wireAttestation
	if err := decode(b, &w); err != nil || len(w.Evidence) == 0 || (s.version == composite) != (w.RuntimeData != nil) || (s.version == flat) != (w.Key != nil) {
		return nil, refuse("want an Attestation of the version that the session began with")
	}
	nonce := base64.StdEncoding.EncodeToString(s.nonce[:])
	rawKey, rawEvidence := w.Key, w.Evidence
	if s.version == composite {
		if w.RuntimeData.Nonce != nonce {
			return nil, refuse("runtime-data.nonce: want the nonce of this session")
		}
		var evidence struct {
			Primary    json.RawMessage `json:"primary_evidence"`
			Additional *string         `json:"additional_evidence"`
		}
		if err := decode(w.Evidence, &evidence); err != nil || len(evidence.Primary) == 0 || evidence.Additional == nil {
			return nil, refuse("tee-evidence: want primary_evidence and additional_evidence")
		}
		if *evidence.Additional != "" {
			return nil, refuse("additional_evidence: evidence of devices is not verified here, so it must not be there")
		}
		rawKey, rawEvidence = w.RuntimeData.Key, evidence.Primary
	}
	key, err := parseKey(rawKey)
	if err != nil {
		return nil, err
	}
	a := &attestation{key: key.public, reportData: s.version.reportData(nonce, key)}
	a.evidence, err = s.tee.read(rawEvidence)
	a.evidence.Kind = s.tee.kind
	return a, err
}

// reportData is what the evidence must carry: SHA-384 over the runtime data as
// RFC 8785 writes it (members sorted, no spaces), then zeroes. No text in it can
// hold a character that would have to be escaped.
func (v version) reportData(nonce string, k guestKey) (out [64]byte) {
	additional := ""
	if v == composite {
		additional = `"additional-evidence":"",`
	}
	d := sha512.Sum384(fmt.Appendf(nil, `{%s"nonce":"%s","tee-pubkey":%s}`, additional, nonce, k.canonical()))
	copy(out[:], d[:])
	return out
}
