package maa

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/azurepolicy"
	"github.com/cloister-cc/cloister/tee"
)

// stamp adds the claims that every token has (RFC 7519 section 4.1).
func (s *Service) stamp(claims map[string]any, issuer string, lifetime time.Duration) error {
	id := make([]byte, 32)
	if _, err := rand.Read(id); err != nil {
		return err
	}
	now := s.cfg.Now()
	claims["iss"], claims["jti"], claims["x-ms-ver"] = issuer, hex.EncodeToString(id), "1.0"
	claims["iat"], claims["nbf"], claims["exp"] = now.Unix(), now.Unix(), now.Add(lifetime).Unix()
	return nil
}

// decide asks the policy about verified evidence, and returns the token's claims
// and how long it is to be good for. The error is an *attest.AppraisalError.
func decide(p *policy, v *attest.Verified, nonce string, given evidence) (map[string]any, time.Duration, error) {
	tree := v.Claims.Tree()
	claims := azurepolicy.TokenClaims(tree)
	given.addUVM(claims)
	incoming := azurepolicy.IncomingOf(claims)
	given.addTo(claims)
	if v.Claims.TEE == tee.SGX {
		claims["x-ms-sgx-collateral"] = sgxCollateral(v)
	}
	if given.runtimeJSON != nil {
		incoming = append(incoming, azurepolicy.Claim{Type: "x-ms-runtime", Value: string(given.runtimeJSON), Issuer: azurepolicy.IssuerCustom})
	}
	// Microsoft's service issues tokens for debug enclaves, and so its clients
	// look at the claim. Simulated evidence has no attestation type here.
	out, err := p.rules.Evaluate(incoming, azurepolicy.Options{AllowDebug: true})
	if err != nil {
		return nil, 0, refuse("policy", "one that can be evaluated", err.Error(), "")
	}
	if !out.Permitted {
		failures := out.Trace.Failures(attest.CodeRule)
		if len(failures) == 0 {
			return nil, 0, refuse("authorizationrules", "permit()", "none", "the policy permits nothing of the kind")
		}
		return nil, 0, &attest.AppraisalError{Policy: "attestation policy", Failures: failures}
	}
	if err := current(p.rules, v.Claims.TCB); err != nil {
		return nil, 0, err
	}
	lifetime, err := act(out.Properties, v.Claims)
	if err != nil {
		return nil, 0, err
	}
	// Names of the token itself, such as iss, no policy can issue.
	for name, value := range out.Issued {
		if _, own := claims[name]; !own {
			claims[name] = value
		}
	}
	if len(out.Issued) > 0 {
		claims["x-ms-policy"] = out.Issued
	}
	claims["x-ms-policy-hash"] = p.hash
	if p.signer != nil {
		claims["x-ms-policy-signer"] = p.signer
	}
	if nonce != "" {
		claims["nonce"] = nonce
	}
	claims["x-cloister-evidence-digest"] = hex.EncodeToString(v.EvidenceDigest[:])
	claims["x-cloister-endorsements-digest"] = hex.EncodeToString(v.EndorsementsDigest[:])
	return claims, lifetime, nil
}

func refuse(claim, want, got, hint string) error {
	return &attest.AppraisalError{Policy: "attestation policy", Failures: []tee.Failure{{Code: attest.CodeRule, Claim: claim, Want: want, Got: got, Hint: hint}}}
}

// current refuses platforms that their vendor says are not up to date, as
// Microsoft's baseline does, unless the policy speaks of the status itself.
func current(p *azurepolicy.Policy, status tee.TCBStatus) error {
	switch status {
	case tee.TCBOutOfDate, tee.TCBOutOfDateConfigurationNeeded, tee.TCBTDRelaunchAdvised, tee.TCBTDRelaunchAdvisedConfigurationNeeded, tee.TCBRevoked, "":
	default:
		return nil
	}
	if p.Names("x-cloister-tcb-status") || p.Names("attester_tcb_status") {
		return nil
	}
	return refuse("tcb_status", "UpToDate, or at most hardening or configuration needed", string(status),
		"update the platform's firmware, or have the policy decide on the claim x-cloister-tcb-status")
}

// unknownProperty returns a property of the configuration that nothing here acts
// on: it may be the one that restricts.
func unknownProperty(p *azurepolicy.Policy) string {
	for _, name := range slices.Sorted(maps.Keys(p.Configuration())) {
		if !azurepolicy.KnownProperty(name) {
			return name
		}
	}
	return ""
}

// act does what the policy's configuration asks for, and returns how long the
// token is to be good for: ten minutes if the policy does not say, and at most a
// day, for what was true yesterday may have been revoked.
func act(properties map[string]any, c tee.Claims) (time.Duration, error) {
	lifetime := attest.DefaultTokenLifetime
	for name, value := range properties {
		switch name {
		case azurepolicy.PropertyValidity:
			minutes, ok := value.(int64)
			if !ok || minutes < 1 {
				return 0, refuse(name, "1 or more", fmt.Sprint(value), "")
			}
			lifetime = time.Duration(min(minutes, int64(attest.MaxTokenLifetime/time.Minute))) * time.Minute
		case azurepolicy.PropertyTCBIdentifier:
			if err := baseline(value, c); err != nil {
				return 0, err
			}
		case azurepolicy.PropertyOmitX5C: // no token of ours has x5c in its header
		case azurepolicy.PropertyValidAIK:
			isTPM := c.TEE == tee.TPM || c.TEE == tee.AzureSNP || c.TEE == tee.AzureTDX
			if value == true && isTPM && c.Vendor["ak_trust"] != "certificate" {
				return 0, refuse(name, "an attestation key with a certificate", fmt.Sprint(c.Vendor["ak_trust"]), "")
			}
		default:
			return 0, refuse("issueproperty "+name, "one that this service acts on", "another", "")
		}
	}
	return lifetime, nil
}

// addTo adds what the attester said of itself, which the evidence vouches for.
func (e evidence) addTo(claims map[string]any) {
	if e.runtimeJSON != nil {
		claims["x-ms-runtime"] = json.RawMessage(e.runtimeJSON)
	}
	if e.initTimeJSON != nil {
		claims["x-ms-inittime"] = json.RawMessage(e.initTimeJSON)
	}
	if e.Kind != tee.SGX {
		if e.runtime != nil {
			claims["x-cloister-runtime-data"] = encode64(e.runtime)
		}
		return
	}
	if e.runtime != nil {
		claims["x-ms-sgx-ehd"] = encode64(e.runtime)
	}
}

// sgxCollateral names by SHA-256 what was judged, the evidence as it was given, and
// what with: of Intel's answers, byte for byte as Intel gives them, the TCB
// information and the identity of the quoting enclave, where there was one of each.
// Certificates and revocation lists are in x-cloister-endorsements-digest, which is
// of everything.
func sgxCollateral(v *attest.Verified) map[string]any {
	hashOf := func(b []byte) string {
		digest := sha256.Sum256(b)
		return hex.EncodeToString(digest[:])
	}
	out := map[string]any{"quotehash": hashOf(v.Evidence.Data)}
	for name, member := range map[string]string{"tcbinfohash": "tcbInfo", "qeidhash": "enclaveIdentity"} {
		var found [][]byte
		for _, b := range v.Input.Endorsements.Collateral {
			if bytes.HasPrefix(b, []byte(`{"`+member+`":`)) {
				found = append(found, b)
			}
		}
		if len(found) == 1 {
			out[name] = hashOf(found[0])
		}
	}
	return out
}
