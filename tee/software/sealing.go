package software

import (
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
)

// errUnsigned refuses what belongs to a signer to code without one.
var errUnsigned = errors.New("the launch document is not signed")

// sealingInfo is the HKDF info (RFC 5869 section 3.2) of a sealing key: all that
// the key depends on beside the device secret.
type sealingInfo struct {
	_           struct{} `cbor:",toarray"`
	Domain      string
	Policy      string
	Measurement []byte // empty under the signer policy
	Signer      []byte // empty under the measurement policy, like product and SVN
	Product     uint32
	SVN         uint32
	Debug       bool
	Context     []byte
}

// deriveSealingKey returns HKDF-SHA256 of the device secret for the policy, as
// far as the launch meets it.
func deriveSealingKey(secret []byte, doc launch.Document, m tee.Measurement, policy tee.SealPolicy, context []byte) ([]byte, error) {
	refuse := func(code tee.Code, err error) ([]byte, error) {
		return nil, &tee.Error{Code: code, Op: "derive sealing key", Err: err}
	}
	if len(context) > MaxSealContext {
		return refuse(tee.CodeParse, fmt.Errorf("context of %d bytes, at most %d", len(context), MaxSealContext))
	}
	info := sealingInfo{Domain: "cloister software TEE sealing key v1", Policy: policy.To, Debug: doc.Debug, Context: context}
	switch {
	case policy == tee.SealToMeasurement():
		info.Measurement = m
	case policy.To != tee.SealToSigner(0).To:
		return refuse(tee.CodeSealPolicy, errors.New("the policy is neither SealToMeasurement nor SealToSigner"))
	case len(doc.Signer) == 0:
		return refuse(tee.CodeSealPolicy, errUnsigned)
	case policy.SVN > doc.SVN:
		return refuse(tee.CodeSealPolicy, fmt.Errorf("the policy wants svn %d, this code has %d", policy.SVN, doc.SVN))
	default:
		info.Signer, info.Product, info.SVN = doc.Signer, doc.Product, policy.SVN
	}
	b, err := encode(info)
	if err != nil {
		return refuse(tee.CodeUnavailable, err)
	}
	key, err := hkdf.Key(sha256.New, secret, nil, string(b), 32)
	if err != nil {
		return refuse(tee.CodeUnavailable, err)
	}
	return key, nil
}
