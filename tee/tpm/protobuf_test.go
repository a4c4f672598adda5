package tpm_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/eventlog"
	"github.com/cloister-cc/cloister/tee/tpm"
)

// message writes protobuf: a byte field.
func message(field byte, v []byte) []byte {
	return append(binary.AppendUvarint([]byte{field<<3 | 2}, uint64(len(v))), v...)
}

func TestProtobuf(t *testing.T) {
	c := chip(t, tpm.ECDSA)
	s := quoted(c)
	pcrs := []byte{8, 0x0B}
	for i, v := range s.PCRs[eventlog.SHA256] {
		pcrs = append(pcrs, message(2, append([]byte{8, byte(i)}, message(2, v)...))...)
	}
	quote := func(pcrs []byte) []byte {
		return message(2, slices.Concat(message(1, s.Quote), message(2, s.Signature), message(3, pcrs)))
	}
	key := message(1, s.AKPublic)
	good := slices.Concat(key, quote(pcrs), message(3, c.Log), []byte{9 << 3, 1})
	claims, _ := verifies(t, tee.Evidence{Kind: tee.TPM, Data: good}, c.Input(t))
	if claims.Vendor["secure_boot"] != true {
		t.Errorf("claims %v", claims.Vendor)
	}
	for name, b := range map[string][]byte{
		"key twice": slices.Concat(key, key, quote(pcrs)), "no quotes": key, "log twice": slices.Concat(good, message(3, c.Log)),
		"many quotes": slices.Concat(key, bytes.Repeat(quote(pcrs), 9)), "PCR twice": slices.Concat(key, quote(append(bytes.Clone(pcrs), pcrs[2:]...))),
		"hash twice": slices.Concat(key, quote(append(bytes.Clone(pcrs), 8, 0x0B))), "PCR 32": slices.Concat(key, quote(append(bytes.Clone(pcrs), message(2, []byte{8, 32})...))),
		"length overflows": append(bytes.Clone(good), 0x1A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01), "number overflows": append(bytes.Clone(good), 0x08, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x02),
		"group": append(bytes.Clone(good), 0x0B), "number that does not end": append(bytes.Clone(good), 0x80),
		"hash of SM3": slices.Concat(key, quote([]byte{8, 0x12})),
	} {
		t.Run(name, func(t *testing.T) { refuses(t, tee.Evidence{Kind: tee.TPM, Data: b}, c.Input(t), tee.CodeParse) })
	}
}
