// Package sealing derives the sealing keys of a TEE from one secret of its own and
// from what was launched: the rules are the same wherever the secret comes from.
//
// # What it protects against
//
// Code that derives the key of other code: an image signed by somebody else, of
// another product, with a lower security version than the key asks for, or a debug
// launch of the same.
//
// # What it does not protect against
//
// Whoever has the secret. Which code may use it, the TEE has to say.
package sealing

import (
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
)

// Size is the length of a sealing key in bytes.
const Size = 32

// MaxContext bounds the caller's context in bytes.
const MaxContext = 4 << 10

// ErrUnsigned refuses what belongs to a signer to code without one.
var ErrUnsigned = errors.New("the launch document is not signed")

// Launch is what was launched.
type Launch struct {
	// Domain separates the keys of one kind of TEE, and version of its rules, from
	// those of others.
	Domain   string
	Document launch.Document
	// Measurement is what SealToMeasurement binds to.
	Measurement []byte
}

// info is the HKDF info (RFC 5869 section 3.2) of a sealing key: all that the key
// depends on beside the secret.
type info struct {
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

// Key returns HKDF-SHA256 of the secret for the policy, as far as the launch meets
// it. Errors are *tee.Error: CodeParse (context), CodeSealPolicy.
func Key(secret []byte, l Launch, policy tee.SealPolicy, context []byte) ([]byte, error) {
	refuse := func(code tee.Code, err error) ([]byte, error) {
		return nil, &tee.Error{Code: code, Op: "derive sealing key", Err: err}
	}
	if len(context) > MaxContext {
		return refuse(tee.CodeParse, fmt.Errorf("context of %d bytes, at most %d", len(context), MaxContext))
	}
	doc := l.Document
	i := info{Domain: l.Domain, Policy: policy.To, Debug: doc.Debug, Context: context}
	switch {
	case policy == tee.SealToMeasurement():
		i.Measurement = l.Measurement
	case policy.To != tee.SealToSigner(0).To:
		return refuse(tee.CodeSealPolicy, errors.New("the policy is neither SealToMeasurement nor SealToSigner"))
	case len(doc.Signer) == 0:
		return refuse(tee.CodeSealPolicy, ErrUnsigned)
	case policy.SVN > doc.SVN:
		return refuse(tee.CodeSealPolicy, fmt.Errorf("the policy wants svn %d, this code has %d", policy.SVN, doc.SVN))
	default:
		i.Signer, i.Product, i.SVN = doc.Signer, doc.Product, policy.SVN
	}
	options := cbor.CoreDetEncOptions()
	options.NilContainers = cbor.NilContainerAsEmpty // no context is the empty context
	mode, err := options.EncMode()
	if err != nil {
		return refuse(tee.CodeUnavailable, err)
	}
	b, err := mode.Marshal(i)
	if err != nil {
		return refuse(tee.CodeUnavailable, err)
	}
	key, err := hkdf.Key(sha256.New, secret, nil, string(b), Size)
	if err != nil {
		return refuse(tee.CodeUnavailable, err)
	}
	return key, nil
}
