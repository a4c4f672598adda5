package maa

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/azure"
	"github.com/cloister-cc/cloister/tee/eventlog"
	"github.com/cloister-cc/cloister/tee/snp"
	"github.com/cloister-cc/cloister/tee/tpm"
)

// azureGuest is the attestation type that Azure's guest attestation library asks
// for (github.com/Azure/confidential-computing-cvm-guest-attestation and
// github.com/Azure/cvm-attestation-tools): the system inside of a confidential VM,
// which its TPM vouches for. Guests send no nonce. What makes a token fresh is that
// it is encrypted to a key of that TPM, which it opens only while its registers
// have the values that it quoted.
const azureGuest = "AzureGuest"

// given is the evidence of the VM. Nothing in it answers a challenge; see
// azureGuest.
func (g *guest) given() (tee.Evidence, attest.Binding) { return g.Evidence, attest.WithoutFreshness() }

// decide wants the key to be one that the VM's TPM made, beside what the policy
// wants.
func (g *guest) decide(p *policy, v *attest.Verified) (map[string]any, time.Duration, error) {
	if err := complete(v); err != nil {
		return nil, 0, err
	}
	var err error
	if g.to, err = g.checkKey(); err != nil {
		return nil, 0, err
	}
	runtime, err := g.runtime(g.to)
	if err != nil {
		return nil, 0, err
	}
	claims, lifetime, err := decide(p, v, "", runtime)
	if err != nil {
		return nil, 0, err
	}
	return claims, lifetime, g.addTo(claims)
}

// wrap encrypts a token so that only this TPM can open it.
func (g *guest) wrap(token string) (any, error) {
	sealed, err := sealToken(g.to, []byte(token))
	return tokenAnswer{sealed}, err
}

// checkKey returns the key that the token is to be encrypted to, after the evidence
// was verified: the TPM's attestation key, which the hardware vouches for, says that
// the TPM has made it and keeps it, and it can be used only in the quoted state.
func (g *guest) checkKey() (*rsa.PublicKey, error) {
	refuse := func(failures ...tee.Failure) (*rsa.PublicKey, error) {
		return nil, &tee.VerifyError{Kind: g.Kind, Failures: failures}
	}
	quote, err := tpm.ParseQuote(g.quote)
	if err != nil {
		return refuse(tpm.Failures(err)...)
	}
	ak, err := g.attestationKey(quote)
	if err != nil {
		return nil, err
	}
	key, _, err := tpm.ParsePublicArea(g.key)
	if err != nil {
		return refuse(tpm.Failures(err)...)
	}
	certified, failures := tpm.CheckCertification(g.certification, &tpm.Signature{Scheme: tpm.RSASSA, Hash: eventlog.SHA256, RSA: g.certifiedBy}, ak, key)
	failures = append(failures, key.CheckSealing(quote.PolicyPCR())...)
	if certified != nil && (certified.ResetCount != quote.ResetCount || certified.RestartCount != quote.RestartCount) {
		failures = append(failures, tee.Failure{Code: tee.CodeBinding, Claim: "certification", Want: "of the boot that is quoted", Got: "of another", Hint: "quote and certify again"})
	}
	// One bank, for Verify has seen values of no other.
	if len(quote.Selections) != 1 || !slices.Equal(quote.Selections[0].Indices, g.pcrs) {
		failures = append(failures, tee.Failure{Code: tee.CodeBinding, Claim: "pcrs", Want: "the registers that are quoted and no others", Got: fmt.Sprint(g.pcrs)})
	}
	public, ok := key.Key.(*rsa.PublicKey)
	if len(failures) > 0 || !ok {
		return refuse(failures...)
	}
	return public, nil
}

// attestationKey is the key that the paravisor names, which has to be the one that
// the guest names.
func (g *guest) attestationKey(quote *tpm.Quote) (*rsa.PublicKey, error) {
	ak, err := azure.AttestationKey(g.Kind, g.runtimeData)
	if err != nil {
		return nil, err
	}
	named, qualified, err := tpm.ParsePublicArea(g.akPublic)
	if err != nil {
		return nil, &tee.VerifyError{Kind: g.Kind, Failures: tpm.Failures(err)}
	}
	if !ak.Equal(named.Key) || qualified != nil && !slices.Equal(qualified, quote.QualifiedSigner) {
		return nil, tee.Refuse(g.Kind, tee.CodeBinding, "AikPub", "the key HCLAkPub of the runtime data, with the name that quotes", "another", "the hardware does not vouch for this key")
	}
	return ak, nil
}

// runtime is what policies see as x-ms-runtime: what the guest wants in its token,
// and the key, which is proven.
func (g *guest) runtime(key *rsa.PublicKey) (evidence, error) {
	runtime, err := json.Marshal(map[string]any{
		"client-payload": g.payload,
		"keys": []any{map[string]any{
			"kid": "TpmEphemeralEncryptionKey", "kty": "RSA", "key_ops": []string{"encrypt"},
			"n": encode64(key.N.Bytes()), "e": encode64(big.NewInt(int64(key.E)).Bytes()),
		}},
	})
	return evidence{Evidence: tee.Evidence{Kind: g.Kind}, runtimeJSON: runtime}, err
}

// addTo adds what policies decide nothing by: what the guest says of its system,
// and the parts of the hardware's report that stand for themselves.
func (g *guest) addTo(claims map[string]any) error {
	maps.Copy(claims, g.system)
	claims["x-ms-azurevm-attestation-protocol-ver"] = guestProtocol
	hardware, ok := claims["x-ms-isolation-tee"].(map[string]any)
	if !ok {
		return errors.New("the claims of the hardware are missing")
	}
	hardware["x-ms-runtime"] = json.RawMessage(g.runtimeData)
	reportData := (&azure.Report{RuntimeData: g.runtimeData}).ReportData() // which the report was found to have
	if g.Kind == tee.AzureTDX {
		hardware["tdx_report_data"] = hex.EncodeToString(reportData[:])
		return nil
	}
	r, err := snp.ParseReport(g.report)
	if err != nil {
		return err
	}
	hardware["x-ms-sevsnpvm-reportdata"] = hex.EncodeToString(reportData[:])
	hardware["x-ms-sevsnpvm-guestsvn"], hardware["x-ms-sevsnpvm-reportid"] = r.GuestSVN, hex.EncodeToString(r.ReportID[:])
	return nil
}

// sealToken encrypts a token with a new key (AES-256-GCM), and that to a TPM's key.
// All names are the library's.
func sealToken(to *rsa.PublicKey, token []byte) (string, error) {
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return "", err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return "", err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return "", err
	}
	iv := make([]byte, aead.NonceSize())
	if _, err := rand.Read(iv); err != nil {
		return "", err
	}
	sealed := aead.Seal(nil, iv, token, []byte("Transport Key"))
	// The clients decrypt with RSAES and nothing else. What an attacker could ask of
	// its padding, only the TPM of the VM itself would answer.
	inner, err := rsa.EncryptPKCS1v15(rand.Reader, to, key) //nolint:staticcheck // as above
	if err != nil {
		return "", err
	}
	text, end := base64.StdEncoding.EncodeToString, len(sealed)-aead.Overhead()
	b, err := json.Marshal(map[string]any{
		"EncryptedInnerKey": text(inner), "AuthenticationData": text(sealed[end:]), "Jwt": text(sealed[:end]),
		// GCM pads nothing; the library wants the word.
		"EncryptionParams": map[string]any{"Iv": text(iv), "BlockMode": "ChainingModeGCM", "BlockPadding": "PKCS7", "Cipher": "AES", "KeySizeInBits": 256},
	})
	return encode64(b), err
}
