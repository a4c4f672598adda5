package tpm

import (
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/cloister-cc/cloister/tee/eventlog"
)

// akTemplate is the TPMT_PUBLIC to create an attestation key from: restricted,
// P-256, ECDSA with SHA-256, no policy. It has no password to guess, and is not
// protected against guessing (noDA): else a TPM that loses its power a few times, as
// virtual ones do, would lock it.
func akTemplate() []byte {
	b := []byte{0, algECC, 0, byte(eventlog.SHA256)}
	a := uint32(FixedTPM | FixedParent | SensitiveDataOrigin | UserWithAuth | noDA | Restricted | Sign)
	b = append(b, byte(a>>24), byte(a>>16), byte(a>>8), byte(a))
	return append(b,
		0, 0, // no policy
		0, algNull, // no symmetric algorithm
		0, byte(ECDSA), 0, byte(eventlog.SHA256),
		0, 3, // P-256
		0, algNull, // no key derivation
		0, 0, 0, 0) // the point is what the TPM makes
}

// endorsementPolicy is PolicySecret(TPM_RH_ENDORSEMENT), the policy of endorsement
// keys ("TCG EK Credential Profile", annex B.3.3, template L-1).
const endorsementPolicy = "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa"

// ekTemplate is template L-1 of the TCG EK Credential Profile: the RSA-2048 key
// that the maker's certificate is for.
func ekTemplate() ([]byte, error) {
	policy, err := hex.DecodeString(endorsementPolicy)
	if err != nil {
		return nil, err
	}
	a := uint32(FixedTPM | FixedParent | SensitiveDataOrigin | AdminWithPolicy | Restricted | Decrypt)
	b := []byte{0, algRSA, 0, byte(eventlog.SHA256), byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a)}
	b = sized(b, policy)
	b = append(b, 0, algAES, 0, 128, 0, algCFB, 0, algNull, 8, 0 /* 2048 bits */, 0, 0, 0, 0)
	return sized(b, make([]byte, 256)), nil
}

// createPrimary makes the key of a template in the endorsement hierarchy.
func (d *device) createPrimary(template []byte) (handle uint32, public *Public, err error) {
	handle, area, err := d.createIn(handleEndorsement, template)
	if err != nil {
		return 0, nil, err
	}
	public, err = ParsePublic(area)
	return handle, public, err
}

// createIn makes the object of a template in a hierarchy, and returns its public
// area. The same template gives the same object until the hierarchy is cleared.
func (d *device) createIn(hierarchy uint32, template []byte) (handle uint32, area []byte, err error) {
	params := append([]byte{0, 4, 0, 0, 0, 0}, sized(nil, template)...) // no password, no data
	params = append(params, 0, 0, 0, 0, 0, 0)                           // no outside info, no creation PCRs
	r, err := d.run(&command{code: ccCreatePrimary, handles: []uint32{hierarchy}, sessions: []session{{}}, params: params})
	if err != nil {
		return 0, nil, err
	}
	handle = r.u32()
	area = r.params().sized(maxCommand)
	return handle, area, r.err
}

func (d *device) readPublic(handle uint32) (*Public, error) {
	r, err := d.run(&command{code: ccReadPublic, handles: []uint32{handle}})
	if err != nil {
		return nil, err
	}
	area := r.sized(maxCommand)
	if r.err != nil {
		return nil, r.err
	}
	return ParsePublic(area)
}

func (d *device) flush(handle uint32) error {
	_, err := d.run(&command{code: ccFlushContext, handles: []uint32{handle}})
	return err
}

// readPCRs reads values of a bank. A TPM gives at most eight at a time, and says
// which.
func (d *device) readPCRs(want Selection) (map[uint32][]byte, error) {
	values := make(map[uint32][]byte)
	for rest := slices.Clone(want.Indices); len(rest) > 0; {
		r, err := d.run(&command{code: ccPCRRead, params: appendSelections(nil, Selection{want.Algorithm, rest})})
		if err != nil {
			return nil, err
		}
		r.u32() // how often PCRs changed
		selected := r.selections()
		n := int(r.u32())
		if r.err != nil || len(selected) != 1 || selected[0].Algorithm != want.Algorithm || n == 0 || n != len(selected[0].Indices) {
			return nil, fmt.Errorf("the TPM has no %s PCRs %v", want.Algorithm, rest)
		}
		for _, i := range selected[0].Indices {
			if v := r.sized(64); r.err == nil && len(v) == want.Algorithm.Size() {
				values[i] = v
			}
		}
		before := len(rest)
		rest = slices.DeleteFunc(rest, func(i uint32) bool { return values[i] != nil })
		if r.err != nil || len(rest) == before {
			return nil, fmt.Errorf("the TPM does not give %s PCRs %v", want.Algorithm, rest)
		}
	}
	return values, nil
}

// quote asks for a quote with the key's own scheme.
func (d *device) quote(ak uint32, extraData []byte, selection Selection) (message, signature []byte, err error) {
	params := append(sized(nil, extraData), 0, algNull)
	params = appendSelections(params, selection)
	r, err := d.run(&command{code: ccQuote, handles: []uint32{ak}, sessions: []session{{}}, params: params})
	if err != nil {
		return nil, nil, err
	}
	size := int(r.u32())
	before := len(r.b)
	message = r.sized(maxCommand)
	signature = r.bytes(size - (before - len(r.b)))
	return message, signature, r.err
}

// activate opens a challenge with the endorsement key, which its policy allows to
// who has the endorsement hierarchy's (empty) password.
func (d *device) activate(ak, ek uint32, credentialBlob, encryptedSecret []byte) ([]byte, error) {
	return d.withPolicy(func(policy uint32) ([]byte, error) {
		return d.activateIn(policy, ak, ek, credentialBlob, encryptedSecret)
	})
}

// withPolicy calls f with a policy session, which f uses up when it succeeds.
func (d *device) withPolicy(f func(policy uint32) ([]byte, error)) ([]byte, error) {
	nonce := make([]byte, 16) // policy sessions that only authorise need none that is fresh
	params := sized(nil, nonce)
	params = append(params, 0, 0, 1, 0, algNull, 0, byte(eventlog.SHA256)) // no salt, policy, no encryption
	r, err := d.run(&command{code: ccStartAuthSession, handles: []uint32{handleNull, handleNull}, params: params})
	if err != nil {
		return nil, err
	}
	policy := r.u32()
	if r.err != nil {
		return nil, r.err
	}
	out, err := f(policy)
	if err != nil {
		// A session that was not used up stays; whether it can be flushed says
		// nothing about the failure.
		_ = d.flush(policy)
	}
	return out, err
}

func (d *device) activateIn(policy, ak, ek uint32, credentialBlob, encryptedSecret []byte) ([]byte, error) {
	none := make([]byte, 2+2+2+4) // nonce, command, reference, no expiration
	_, err := d.run(&command{code: ccPolicySecret, handles: []uint32{handleEndorsement, policy}, sessions: []session{{}}, params: none})
	if err != nil {
		return nil, err
	}
	r, err := d.run(&command{
		code: ccActivateCredential, handles: []uint32{ak, ek}, sessions: []session{{}, {policy}},
		params: sized(sized(nil, credentialBlob), encryptedSecret),
	})
	if err != nil {
		return nil, err
	}
	secret := r.params().sized(64)
	return secret, r.err
}
