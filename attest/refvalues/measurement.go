package refvalues

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/cloister-cc/cloister/tee"
)

// Keys of a measurement-values-map (draft-ietf-rats-corim section 5.1.4.1.4).
const (
	mvalVersion   = 0
	mvalSVN       = 1
	mvalDigests   = 2
	mvalFlags     = 3
	mvalRaw       = 4
	mvalRegisters = 14
)

// Algorithms of digests (IANA named information registry).
const (
	algSHA256 = 1
	algSHA384 = 7
)

// measurement reads a measurement-map into conditions; key names the element.
func (r *comidReader) measurement(v any, at string, e *Entry) (key string, err error) {
	m, err := mapOf(v, at)
	if err != nil {
		return "", err
	}
	mkey, named := m.take(0)
	value, ok := m.take(1)
	if !ok {
		return "", malformed("%s: no values", at)
	}
	if err := m.done(); err != nil { // authorized-by
		return "", err
	}
	values, err := mapOf(value, at+": mval")
	if err != nil {
		return "", err
	}
	switch {
	case e.TEE == tee.SNP && r.profile == profileSNP:
		err = snpMeasurement(mkey, values, e)
	case named:
		err = malformed("%s: the element %v has no meaning here", at, mkey)
	case r.profile == profileIntel && (e.TEE == tee.SGX || e.TEE == tee.TDX):
		err = intelMeasurement(values, e)
	default:
		err = plainMeasurement(values, e)
	}
	if err == nil {
		err = values.done()
	}
	return fmt.Sprint(mkey), err
}

// plainMeasurement reads what means the same without a profile: the digest of
// the code and its security version.
func plainMeasurement(m cmap, e *Entry) error {
	if v, ok := m.take(mvalDigests); ok {
		if err := e.digests(v, m.at+": digests", claimMeasurement); err != nil {
			return err
		}
	}
	if v, ok := m.take(mvalSVN); ok {
		if err := e.svn(v, m.at+": svn", claimSVN); err != nil {
			return err
		}
	}
	return e.debugFlag(m)
}

// debugFlag reads a flags-map that says nothing but is-debug.
func (e *Entry) debugFlag(m cmap) error {
	v, ok := m.take(mvalFlags)
	if !ok {
		return nil
	}
	f, err := mapOf(v, m.at+": flags")
	if err != nil {
		return err
	}
	if err := e.flag(f, 3, claimDebug); err != nil {
		return err
	}
	return f.done()
}

// flag adds a condition for one flag, if it is there.
func (e *Entry) flag(f cmap, key int64, claim string) error {
	v, ok := f.take(key)
	if !ok {
		return nil
	}
	b, ok := v.(bool)
	if !ok {
		return malformed("%s: flag %d is no boolean", f.at, key)
	}
	e.equal(claim, b)
	return nil
}

// svn reads svn-type-choice: a number or tag 552 must be met exactly, tag 553 at
// least.
func (e *Entry) svn(v any, at, claim string) error {
	if inner, ok := tagged(v, tagMinSVN); ok {
		n, err := uintOf(inner, at)
		if err == nil {
			e.atLeast(claim, n)
		}
		return err
	}
	if inner, ok := tagged(v, tagSVN); ok {
		v = inner
	}
	n, err := uintOf(v, at)
	if err == nil {
		e.equal(claim, n)
	}
	return err
}

// digestSize is the digest that a TEE measures with.
func digestSize(k tee.Kind) (alg uint64, size int) {
	if k == tee.SGX || k == tee.Software {
		return algSHA256, 32
	}
	return algSHA384, 48
}

// digests reads digests-type: digests of one thing by different algorithms. The
// one counts that the TEE measures with.
func (e *Entry) digests(v any, at, claim string) error {
	values, err := e.digestList(v, at)
	if err != nil {
		return err
	}
	if len(values) != 1 {
		return malformed("%s: want exactly one digest by the algorithm that %s measures with", at, e.TEE)
	}
	e.equal(claim, values...)
	return nil
}

// digestList returns the digests by the algorithm of the TEE.
func (e *Entry) digestList(v any, at string) ([]any, error) {
	items, err := arrayOf(v, at, MaxEntries)
	if err != nil {
		return nil, err
	}
	if _, single := items[0].(uint64); single {
		items = []any{v} // one digest without a list, as the Intel draft allows
	}
	alg, size := digestSize(e.TEE)
	var out []any
	for i, item := range items {
		here := at + "[" + strconv.Itoa(i) + "]"
		d, ok := item.([]any)
		if !ok || len(d) != 2 {
			return nil, malformed("%s: want an algorithm and a value", here)
		}
		s, err := bytesOf(d[1], here, 64)
		if err != nil {
			return nil, err
		}
		n, err := uintOf(d[0], here+": algorithm")
		if err != nil {
			return nil, err
		}
		if n != alg {
			continue
		}
		if len(s) != 2*size {
			return nil, malformed("%s: %d bytes, want %d", here, len(s)/2, size)
		}
		out = append(out, s)
	}
	return out, nil
}

// raw reads tag 560, or 563 with a mask that leaves nothing out.
func (e *Entry) raw(v any, at, claim string, size int) error {
	inner, ok := tagged(v, tagBytes)
	if masked, isMasked := tagged(v, tagMaskedBytes); isMasked {
		pair, isPair := masked.([]any)
		if !isPair || len(pair) != 2 {
			return malformed("%s: want a value and a mask", at)
		}
		mask, err := bytesOf(pair[1], at+": mask", size)
		if err != nil {
			return err
		}
		if mask != strings.Repeat("ff", size) {
			return malformed("%s: a mask is not supported, and leaving it out would accept other values", at)
		}
		inner, ok = pair[0], true
	}
	if !ok {
		return malformed("%s: want tagged bytes", at)
	}
	s, err := bytesOf(inner, at, size)
	if err != nil {
		return err
	}
	if len(s) != 2*size {
		return malformed("%s: %d bytes, want %d", at, len(s)/2, size)
	}
	e.equal(claim, s)
	return nil
}

// version reads the text of a version-map.
func versionOf(v any, at string) (string, error) {
	m, err := mapOf(v, at)
	if err != nil {
		return "", err
	}
	s, _ := m.take(0)
	m.take(1) // the scheme says how to compare versions; they are compared exactly
	text, err := textOf(s, at)
	if err != nil {
		return "", err
	}
	return text, m.done()
}
