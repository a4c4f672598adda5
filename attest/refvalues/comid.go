package refvalues

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/cloister-cc/cloister/attest/term"
	"github.com/cloister-cc/cloister/tee"
	"github.com/fxamacker/cbor/v2"
)

// profile is a CoRIM profile that is known here.
type profile uint8

const (
	noProfile profile = iota
	profileSNP
	profileIntel
)

// Identifiers of the profiles. The AMD draft still has a placeholder for a URI.
const (
	uriSNP   = "http://amd.com/please-permalink-me"
	oidIntel = "2.16.840.1.113741.1.16.1"
)

// profile reads the profile: one, which older revisions put into a list.
func (o CoRIMOptions) profile(m cmap) (profile, error) {
	v, ok := m.take(3)
	if !ok {
		return noProfile, nil
	}
	if a, ok := v.([]any); ok && len(a) == 1 {
		v = a[0]
	}
	const tagURI = 32
	if inner, ok := tagged(v, tagURI); ok {
		v = inner
	}
	if s, ok := v.(string); ok && s == uriSNP {
		return profileSNP, nil
	}
	if s, ok := oidOf(v); ok && s == oidIntel {
		return profileIntel, nil
	}
	return noProfile, malformed("corim: the profile is not known, so its extensions cannot be read")
}

type comidReader struct {
	o       CoRIMOptions
	profile profile
	out     Values
}

func (r *comidReader) skip(format string, a ...any) {
	if len(r.out.Skipped) < MaxEntries {
		r.out.Skipped = append(r.out.Skipped, term.Clean(fmt.Sprintf(format, a...), 160))
	}
}

// tag reads one tag of a CoRIM.
func (r *comidReader) tag(v any, at string) error {
	t, ok := v.(cbor.Tag)
	if !ok {
		return malformed("%s: no tag", at)
	}
	if t.Number != tagCoMID {
		r.skip("%s: tag %d", at, t.Number)
		return nil
	}
	b, ok := t.Content.([]byte)
	if !ok {
		return malformed("%s: a CoMID is bytes", at)
	}
	inner, err := decode(b)
	if err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	m, err := mapOf(inner, at+": comid")
	if err != nil {
		return err
	}
	triples, _ := m.take(4)
	for _, describing := range []int64{0, 1, 2, 3} { // language, tag-identity, entities, linked-tags
		m.take(describing)
	}
	if err := m.done(); err != nil {
		return err
	}
	return r.triples(triples, at+": triples")
}

// triples reads the reference triples. The others endorse what evidence does not
// say itself, and are skipped.
func (r *comidReader) triples(v any, at string) error {
	m, err := mapOf(v, at)
	if err != nil {
		return err
	}
	reference, ok := m.take(0)
	for _, k := range slices.Sorted(maps.Keys(m.left)) {
		r.skip("%s: triples of kind %d", at, k)
	}
	if !ok {
		return nil
	}
	items, err := arrayOf(reference, at+": reference-triples", MaxEntries)
	if err != nil {
		return err
	}
	for i, t := range items {
		if err := r.triple(t, fmt.Sprintf("%s: reference-triples[%d]", at, i)); err != nil {
			return err
		}
	}
	return nil
}

// triple reads one reference triple: an environment and what is measured there,
// all of which must hold together.
func (r *comidReader) triple(v any, at string) error {
	parts, ok := v.([]any)
	if !ok || len(parts) != 2 {
		return malformed("%s: want an environment and measurements", at)
	}
	e := Entry{Source: at}
	known, err := r.environment(parts[0], at+": environment", &e)
	if err != nil {
		return err
	}
	if !known {
		r.skip("%s: another environment", at)
		return nil
	}
	measurements, ok := parts[1].([]any)
	if !ok {
		measurements = []any{parts[1]} // the Intel examples have one without a list
	}
	if len(measurements) == 0 || len(measurements) > MaxConditions {
		return malformed("%s: want 1 to %d measurements", at, MaxConditions)
	}
	seen := map[string]bool{}
	for i, m := range measurements {
		key, err := r.measurement(m, fmt.Sprintf("%s: measurements[%d]", at, i), &e)
		if err != nil {
			return err
		}
		if seen[key] {
			return malformed("%s: the same element twice", at)
		}
		seen[key] = true
	}
	if len(r.out.Entries) >= MaxEntries {
		return malformed("more than %d entries", MaxEntries)
	}
	r.out.Entries = append(r.out.Entries, e)
	return nil
}

// environment finds the TEE that an environment-map is about.
func (r *comidReader) environment(v any, at string, e *Entry) (known bool, err error) {
	m, err := mapOf(v, at)
	if err != nil {
		return false, err
	}
	class, ok := m.take(0)
	if !ok {
		return false, nil
	}
	c, err := mapOf(class, at+": class")
	if err != nil {
		return false, err
	}
	if !r.class(c, e) {
		return false, nil
	}
	// A known class with a layer, an index or a group is a part of something.
	if err := c.done(); err != nil {
		return false, err
	}
	if v, ok := m.take(1); ok {
		// "instance is 560(CHIP_ID)", or the CSP_ID of a VLEK.
		b, ok := tagged(v, tagBytes)
		id, err := bytesOf(b, at+": instance", 64)
		if !ok || err != nil || e.TEE != tee.SNP {
			return false, malformed("%s: this instance is not supported", at)
		}
		e.equal("sev_snp.chip_id", id)
	}
	return true, m.done()
}

// class returns the TEE of a class-map and takes what identifies it: the
// class-id, beside which the vendor says nothing new, or vendor and model.
func (r *comidReader) class(c cmap, e *Entry) bool {
	id, byID := c.take(0)
	vendor, _ := c.take(1)
	name, _ := oidOf(id)
	if u, ok := tagged(id, tagUUID); ok {
		name = uuidOf(u)
	}
	if !byID {
		model, _ := c.take(2)
		v, _ := vendor.(string)
		m, _ := model.(string)
		name = v + "/" + m
	}
	if k, ok := r.o.Classes[name]; ok && name != "" {
		e.TEE = k
		return true
	}
	switch name {
	case "1.3.6.1.4.1.3704.2.1", "1.3.6.1.4.1.3704.2.2": // not assigned yet
		e.TEE = tee.SNP
	case "d05e6d1b-9f46-4ae2-a610-ce3e6ee7e153": // "by chip"
		e.TEE = tee.SNP
		e.equal("sev_snp.signing_key", "vcek")
	case "89a7a1f0-e704-4faa-acbd-81c86df8a961": // "by CSP"
		e.TEE = tee.SNP
		e.equal("sev_snp.signing_key", "vlek")
	case "2.16.840.1.113741.1.2.3.5.1": // "SGX-ISVE"
		e.TEE = tee.SGX
	default:
		return false
	}
	return true
}

func uuidOf(v any) string {
	b, ok := v.([]byte)
	if !ok || len(b) != 16 {
		return ""
	}
	s := hex.EncodeToString(b)
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// oidOf spells a tagged OID: the BER content octets (RFC 9090).
func oidOf(v any) (string, bool) {
	content, ok := tagged(v, tagOID)
	b, isBytes := content.([]byte)
	if !ok || !isBytes || len(b) == 0 || len(b) > 64 {
		return "", false
	}
	var arcs []string
	n, started := uint64(0), false
	for _, c := range b {
		if !started && c == 0x80 || n > 1<<56 {
			return "", false // a leading zero, or an arc beyond all that are used
		}
		n, started = n<<7|uint64(c&0x7F), true
		if c&0x80 != 0 {
			continue
		}
		if len(arcs) == 0 {
			first := min(n/40, 2)
			arcs = append(arcs, strconv.FormatUint(first, 10))
			n -= 40 * first
		}
		arcs = append(arcs, strconv.FormatUint(n, 10))
		n, started = 0, false
	}
	if started {
		return "", false
	}
	return strings.Join(arcs, "."), true
}
