package tpm

import (
	"crypto/aes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/eventlog"
)

// Labels of key derivation (part 1, section "Credential Protection").
const (
	labelIdentity  = "IDENTITY"
	labelStorage   = "STORAGE"
	labelIntegrity = "INTEGRITY"
)

// MaxSecret is the longest secret that a challenge can carry, in bytes: what a
// TPM2B_DIGEST of SHA-256 holds.
const MaxSecret = 32

// MakeCredential makes the challenge with which a relying party enrols an
// attestation key: only the TPM that has the private endorsement key ek, and a key
// of the name akName beside it, can get the secret out ([Attester.ActivateCredential]).
// It is what TPM2_MakeCredential computes (part 1, section "Credential
// Protection"), and needs no TPM. ek is the endorsement key's public area, which
// its certificate has to vouch for; its own attributes are checked here, and
// those of the attestation key by [Public.CheckAK], which the caller must not
// forget: the name alone does not say what the key may do.
//
// It returns the contents of a TPM2B_ID_OBJECT and of a TPM2B_ENCRYPTED_SECRET,
// without their lengths. The error is a *tee.Error with CodeUnsupported or
// CodeParse.
func MakeCredential(ek *Public, akName, secret []byte) (credentialBlob, encryptedSecret []byte, err error) {
	const op = "make credential"
	if ek == nil || ek.Attributes&(FixedTPM|Restricted|Decrypt) != FixedTPM|Restricted|Decrypt || ek.Attributes&Sign != 0 || ek.SymmetricBits == 0 {
		return nil, nil, &tee.Error{Code: tee.CodeUnsupported, Op: op, Err: errors.New("not an endorsement key: want fixedTPM, restricted, decrypt and AES")}
	}
	if len(secret) == 0 || len(secret) > MaxSecret || len(akName) < 3 || len(akName) > maxName {
		return nil, nil, &tee.Error{Code: tee.CodeParse, Op: op, Err: fmt.Errorf("a secret has 1 to %d bytes, a name at most %d", MaxSecret, maxName)}
	}
	seed, encryptedSecret, err := makeSeed(ek)
	if err != nil {
		return nil, nil, &tee.Error{Code: tee.CodeUnsupported, Op: op, Err: err}
	}
	h := ek.NameAlgorithm
	encrypted, err := encryptCFB(kdfa(h, seed, labelStorage, akName, ek.SymmetricBits), sized(nil, secret))
	if err != nil {
		return nil, nil, &tee.Error{Code: tee.CodeUnsupported, Op: op, Err: err}
	}
	mac := hmac.New(h.Hash().New, kdfa(h, seed, labelIntegrity, nil, 8*h.Size()))
	mac.Write(encrypted)
	mac.Write(akName)
	return append(sized(nil, mac.Sum(nil)), encrypted...), encryptedSecret, nil
}

// makeSeed makes a seed that only the endorsement key's TPM can get at (part 1,
// sections "RSA: Secret Sharing" and "ECC: Secret Sharing").
func makeSeed(ek *Public) (seed, encrypted []byte, err error) {
	switch k := ek.Key.(type) {
	case *rsa.PublicKey:
		seed = make([]byte, ek.NameAlgorithm.Size())
		rand.Read(seed)
		encrypted, err = rsa.EncryptOAEP(ek.NameAlgorithm.Hash().New(), rand.Reader, k, seed, []byte(labelIdentity+"\x00"))
		return seed, encrypted, err
	case *ecdsa.PublicKey:
		peer, err := k.ECDH()
		if err != nil {
			return nil, nil, err
		}
		ephemeral, err := peer.Curve().GenerateKey(rand.Reader)
		if err != nil {
			return nil, nil, err
		}
		z, err := ephemeral.ECDH(peer)
		if err != nil {
			return nil, nil, err
		}
		x, y := coordinates(ephemeral.PublicKey())
		peerX, _ := coordinates(peer)
		return kdfe(ek.NameAlgorithm, z, labelIdentity, x, peerX), sized(sized(nil, x), y), nil
	default:
		return nil, nil, fmt.Errorf("key of type %T", k)
	}
}

// coordinates of a point in uncompressed form.
func coordinates(k *ecdh.PublicKey) (x, y []byte) {
	b := k.Bytes()[1:]
	return b[:len(b)/2], b[len(b)/2:]
}

// kdfa is KDFa (part 1, section "KDFa()"), the counter mode of SP 800-108 with
// HMAC, for whole bytes.
func kdfa(h eventlog.Algorithm, key []byte, label string, context []byte, bits int) []byte {
	var out []byte
	for i := uint32(1); len(out) < bits/8; i++ {
		mac := hmac.New(h.Hash().New, key)
		mac.Write(binary.BigEndian.AppendUint32(nil, i))
		mac.Write([]byte(label + "\x00"))
		mac.Write(context)
		mac.Write(binary.BigEndian.AppendUint32(nil, uint32(bits)))
		out = mac.Sum(out)
	}
	return out[:bits/8]
}

// kdfe is KDFe (part 1, section "KDFe for ECDH") for as many bits as the hash has.
func kdfe(h eventlog.Algorithm, z []byte, label string, partyU, partyV []byte) []byte {
	return h.Sum([]byte{0, 0, 0, 1}, z, []byte(label+"\x00"), partyU, partyV)
}

// encryptCFB encrypts with AES in CFB mode from an IV of zeroes, which is what the
// specification wants: the key is used once. The mode is written out because the
// standard library rightly calls its own outdated; what it encrypts is
// authenticated outside.
func encryptCFB(key, plain []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	out := make([]byte, len(plain))
	feedback := make([]byte, aes.BlockSize)
	for at := 0; at < len(plain); at += aes.BlockSize {
		block.Encrypt(feedback, feedback)
		n := min(aes.BlockSize, len(plain)-at)
		for i := range n {
			out[at+i] = plain[at+i] ^ feedback[i]
		}
		copy(feedback, out[at:at+n])
	}
	return out, nil
}
