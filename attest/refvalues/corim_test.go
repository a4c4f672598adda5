package refvalues_test

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/attest/refvalues"
	"github.com/cloister-cc/cloister/tee"
	"github.com/google/go-cmp/cmp"
	"github.com/veraison/go-cose"
)

func conditions(t *testing.T, b []byte) []refvalues.Condition {
	t.Helper()
	v, err := refvalues.FromCoRIM(b, open)
	if err != nil {
		t.Fatal(err)
	}
	if len(v.Entries) != 1 {
		t.Fatalf("%d entries", len(v.Entries))
	}
	return v.Entries[0].Conditions
}

func TestSNP(t *testing.T) {
	raw := func(n int) any { return tag{Number: 560, Content: bytes.Repeat([]byte{0xCC}, n)} }
	b := unsigned(t, arr{profileSNP}, triple("snp",
		guest(obj{1: tag{Number: 553, Content: 3}, 0: obj{0: strings.Repeat("0A", 16)}, 4: raw(16), 3: obj{3: false, -1: true, 9: true, -8: true}}),
		obj{0: 1, 1: obj{0: obj{0: "1.51.0", 1: 16384}}},
		obj{0: 2, 1: obj{4: 2}},
		obj{0: 3, 1: obj{4: raw(32)}}, obj{0: 5, 1: obj{4: raw(48)}},
		obj{0: 8, 1: obj{0: obj{0: "1.55.40"}, 4: raw(32), 3: obj{-49: true, -52: false}}}))
	cc := func(n int) string { return strings.Repeat("cc", n) }
	want := []refvalues.Condition{
		{Claim: "sev_snp.signing_key", Equal: []any{"vcek"}},
		{Claim: "measurement", Equal: []any{hex.EncodeToString(m48)}},
		{Claim: "svn", Min: new(uint64(3))},
		{Claim: "sev_snp.image_id", Equal: []any{strings.Repeat("0a", 16)}},
		{Claim: "sev_snp.family_id", Equal: []any{cc(16)}},
		{Claim: "debug", Equal: []any{false}}, {Claim: "sev_snp.policy.smt", Equal: []any{true}}, {Claim: "sev_snp.policy.ciphertext_hiding_dram", Equal: []any{true}},
		{Claim: "sev_snp.policy.abi_major", Equal: []any{uint64(1)}}, {Claim: "sev_snp.policy.abi_minor", Equal: []any{uint64(51)}},
		{Claim: "sev_snp.vmpl", Equal: []any{uint64(2)}},
		{Claim: "instance_id", Equal: []any{cc(32)}}, {Claim: "sev_snp.id_key_digest", Equal: []any{cc(48)}},
		{Claim: "sev_snp.current_firmware", Equal: []any{"1.55.40"}}, {Claim: "sev_snp.host_data", Equal: []any{cc(32)}},
		{Claim: "sev_snp.platform_info.smt", Equal: []any{true}}, {Claim: "sev_snp.platform_info.rapl_disabled", Equal: []any{false}},
	}
	if d := cmp.Diff(want, conditions(t, b)); d != "" {
		t.Error(d)
	}
}

func TestSGX(t *testing.T) {
	sha := arr{1, m32}
	b := unsigned(t, profileIntel, arr{obj{0: classBy["sgx"]}, obj{1: obj{
		-83: tag{Number: 60020, Content: arr{6, arr{sha, arr{7, m48}, arr{1, signer}}}}, -84: sha, -73: tag{Number: 60010, Content: arr{2, 6}},
		-85: 1, -86: tag{Number: 60010, Content: arr{2, 17}}, -88: tag{Number: 60021, Content: arr{6, arr{"UpToDate", "SWHardeningNeeded"}}}, -70: "Intel Corporation",
	}}})
	want := []refvalues.Condition{
		{Claim: "measurement", Equal: []any{hex.EncodeToString(m32), hex.EncodeToString(signer)}},
		{Claim: "signer", Equal: []any{hex.EncodeToString(m32)}},
		{Claim: "svn", Min: new(uint64(6))}, {Claim: "product", Equal: []any{uint64(1)}},
		{Claim: "sgx.tcb_evaluation_data_number", Min: new(uint64(17))}, {Claim: "tcb_status", Equal: []any{"UpToDate", "SWHardeningNeeded"}},
	}
	if d := cmp.Diff(want, conditions(t, b)); d != "" {
		t.Error(d)
	}
}

func TestTDX(t *testing.T) {
	b := unsigned(t, profileIntel, triple("tdx", obj{1: obj{-83: arr{arr{7, m48}}, 14: obj{0: arr{arr{7, m48}}, 2: arr{arr{7, m48}}}, 3: obj{3: false}}}))
	m := []any{hex.EncodeToString(m48)}
	want := []refvalues.Condition{{Claim: "measurement", Equal: m}, {Claim: "tdx.rtmr0", Equal: m}, {Claim: "tdx.rtmr2", Equal: m}, {Claim: "debug", Equal: []any{false}}}
	if d := cmp.Diff(want, conditions(t, b)); d != "" {
		t.Error(d)
	}
	// The drafts assign no class to a TD: without the caller's word it is skipped.
	if _, err := refvalues.FromCoRIM(b, refvalues.CoRIMOptions{AllowUnsigned: true}); err == nil || !strings.Contains(err.Error(), "another environment") {
		t.Errorf("got %v", err)
	}
}

func TestWithoutProfile(t *testing.T) {
	b := unsigned(t, nil, triple("snp", obj{1: obj{2: arr{arr{7, m48}, arr{8, bytes.Repeat([]byte{1}, 64)}}, 1: 4}}))
	want := []refvalues.Condition{{Claim: "sev_snp.signing_key", Equal: []any{"vcek"}}, {Claim: "measurement", Equal: []any{hex.EncodeToString(m48)}}, {Claim: "svn", Equal: []any{uint64(4)}}}
	if d := cmp.Diff(want, conditions(t, b)); d != "" {
		t.Error(d)
	}
}

// What is about something else is left out and named; several tags are read.
func TestSkipped(t *testing.T) {
	m := corimMap(t, profileSNP, triple("snp", guest(nil)), arr{obj{0: obj{0: tag{Number: 111, Content: []byte{0x2A}}}}, arr{obj{1: obj{99: 1}}}}, arr{obj{1: tag{Number: 560, Content: []byte{1}}}, arr{}})
	comid := encode(t, obj{1: obj{0: "b"}, 4: obj{1: arr{}, 3: arr{}}})
	tags, _ := m[1].(arr)
	m[1] = append(tags, tag{Number: 505, Content: []byte{0xA0}}, tag{Number: 506, Content: comid})
	v, err := refvalues.FromCoRIM(encode(t, tag{Number: 500, Content: tag{Number: 501, Content: m}}), open)
	if err != nil || len(v.Entries) != 1 {
		t.Fatalf("%+v, %v", v, err)
	}
	want := []string{
		"corim: tags[0]: triples: reference-triples[1]: another environment", "corim: tags[0]: triples: reference-triples[2]: another environment",
		"corim: tags[1]: tag 505", "corim: tags[2]: triples: triples of kind 1", "corim: tags[2]: triples: triples of kind 3",
	}
	if d := cmp.Diff(want, v.Skipped); d != "" {
		t.Error(d)
	}
}

func TestSignedCoRIM(t *testing.T) {
	payload := unsigned(t, profileSNP, triple("snp", guest(nil)))
	p256, p384, ed := ecKey(t, elliptic.P256()), ecKey(t, elliptic.P384()), edKey(t)
	all := refvalues.CoRIMOptions{Keys: []crypto.PublicKey{p256.Public(), p384.Public(), ed.Public()}, At: at}
	for alg, key := range map[cose.Algorithm]crypto.Signer{cose.AlgorithmES256: p256, cose.AlgorithmES384: p384, cose.AlgorithmEdDSA: ed} {
		b := signed(t, alg, key, payload, nil)
		if v, err := refvalues.FromCoRIM(b, all); err != nil || len(v.Entries) != 1 {
			t.Errorf("%v: %v", alg, err)
		}
		if _, err := refvalues.FromCoRIM(encode(t, tag{Number: 500, Content: tag{Number: 502, Content: rawTag(t, b)}}), all); err != nil {
			t.Errorf("%v, older tags: %v", alg, err)
		}
		for _, o := range []refvalues.CoRIMOptions{{}, {AllowUnsigned: true, At: at}, {Keys: []crypto.PublicKey{ecKey(t, elliptic.P256()).Public(), edKey(t).Public(), nil, "key"}}} {
			if _, err := refvalues.FromCoRIM(b, o); !errors.Is(err, refvalues.ErrNotTrusted) {
				t.Errorf("%v: got %v, want ErrNotTrusted", alg, err)
			}
		}
		for i := range b {
			c := bytes.Clone(b)
			c[i] ^= 1
			if v, err := refvalues.FromCoRIM(c, all); err == nil {
				t.Fatalf("%v: byte %d altered: %+v", alg, i, v)
			}
		}
	}
	if _, err := refvalues.FromCoRIM(payload, all); !errors.Is(err, refvalues.ErrNotTrusted) {
		t.Errorf("unsigned: got %v", err)
	}
}

// rawTag decodes a tagged message for wrapping.
func rawTag(t testing.TB, b []byte) any {
	t.Helper()
	var v tag
	if err := unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestRefusedSignedCoRIM(t *testing.T) {
	payload, key := unsigned(t, profileSNP, triple("snp", guest(nil))), ecKey(t, elliptic.P256())
	o := refvalues.CoRIMOptions{Keys: []crypto.PublicKey{key.Public()}, At: at}
	meta := func(v obj) []byte { return encode(t, v) }
	validity := func(from, to time.Time) obj {
		return obj{0: obj{0: "signer"}, 1: obj{0: tag{Number: 1, Content: from.Unix()}, 1: tag{Number: 1, Content: to.Unix()}}}
	}
	for name, c := range map[string]struct {
		payload []byte
		header  cose.ProtectedHeader
		o       refvalues.CoRIMOptions
		want    string
	}{
		"content type":     {payload, cose.ProtectedHeader{cose.HeaderLabelContentType: "text/plain"}, o, "content type"},
		"critical":         {payload, cose.ProtectedHeader{cose.HeaderLabelCritical: arr{int64(99)}, int64(99): 1}, o, "critical"},
		"payload":          {encode(t, obj{0: 1}), nil, o, "the payload is not an unsigned CoRIM"},
		"payload trailing": {append(bytes.Clone(payload), 0), nil, o, "bytes after"},
		"not yet":          {payload, cose.ProtectedHeader{int64(8): meta(validity(at.Add(time.Hour), at.Add(2*time.Hour)))}, o, "not valid yet"},
		"expired":          {payload, cose.ProtectedHeader{int64(8): meta(validity(at.Add(-2*time.Hour), at.Add(-time.Hour)))}, o, "not valid any more"},
		"no time":          {payload, cose.ProtectedHeader{int64(8): meta(validity(at, at))}, refvalues.CoRIMOptions{Keys: o.Keys}, "give the time"},
	} {
		if _, err := refvalues.FromCoRIM(signed(t, cose.AlgorithmES256, key, c.payload, c.header), c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v\nwant %s", name, err, c.want)
		}
	}
	b := signed(t, cose.AlgorithmES256, key, payload, cose.ProtectedHeader{int64(8): meta(validity(at.Add(-time.Hour), at.Add(time.Hour)))})
	if _, err := refvalues.FromCoRIM(b, o); err != nil {
		t.Error(err)
	}
}

func TestRefusedCoRIM(t *testing.T) {
	intel := func(m obj) []byte { return unsigned(t, profileIntel, triple("sgx", obj{1: m})) }
	amd := func(m ...any) []byte { return unsigned(t, profileSNP, triple("snp", m...)) }
	with := func(k, v any) []byte {
		m := corimMap(t, profileSNP, triple("snp", guest(nil)))
		m[k] = v
		return encode(t, tag{Number: 501, Content: m})
	}
	comid := func(m obj) []byte { return with(1, arr{tag{Number: 506, Content: encode(t, m)}}) }
	long := tag{Number: 560, Content: bytes.Repeat([]byte{1}, 20)}
	for name, c := range map[string]struct {
		in   []byte
		want string
	}{
		"empty":              {nil, "not CBOR"},
		"trailing":           {append(amd(guest(nil)), 0), "bytes after"},
		"no tag":             {encode(t, obj{0: 1}), "neither an unsigned CoRIM"},
		"duplicate key":      {unhex("d901f5a200010002"), "not CBOR"},
		"indefinite":         {unhex("d901f5bf0001ff"), "not CBOR"},
		"deep":               {bytes.Repeat([]byte{0x81}, 100), "not CBOR"},
		"not a map":          {encode(t, tag{Number: 501, Content: 7}), "want a map"},
		"text key":           {with("x", 1), "a key is no integer"},
		"large key":          {with(uint64(1)<<40, 1), "key 1099511627776"},
		"unknown key":        {with(9, 1), "corim: key 9 is not supported"},
		"profile":            {with(3, tag{Number: 32, Content: "http://other"}), "the profile is not known"},
		"two profiles":       {with(3, arr{profileSNP, profileIntel}), "the profile is not known"},
		"no tags":            {with(1, arr{}), "want a list"},
		"tag is no tag":      {with(1, arr{1}), "no tag"},
		"comid is no bytes":  {with(1, arr{tag{Number: 506, Content: 1}}), "a CoMID is bytes"},
		"comid unknown key":  {comid(obj{1: obj{0: "x"}, 4: obj{0: arr{triple("snp", guest(nil))}}, 7: 1}), "comid: key 7"},
		"no triples":         {comid(obj{1: obj{0: "x"}}), "triples: want a map"},
		"only endorsements":  {comid(obj{4: obj{1: arr{}}}), "nothing in it is about code"},
		"validity":           {with(4, obj{1: tag{Number: 1, Content: at.Unix()}}), "give the time"},
		"triple":             {unsigned(t, nil, arr{obj{0: classBy["snp"]}}), "want an environment and measurements"},
		"no measurements":    {unsigned(t, nil, arr{obj{0: classBy["snp"]}, arr{}}), "want 1 to"},
		"layer":              {unsigned(t, nil, arr{obj{0: obj{0: tag{Number: 37, Content: unhex("d05e6d1b9f464ae2a610ce3e6ee7e153")}, 3: 1}}, arr{guest(nil)}}), "class: key 3 is not supported"},
		"group":              {unsigned(t, nil, arr{obj{0: classBy["snp"], 2: tag{Number: 37, Content: m32[:16]}}, arr{guest(nil)}}), "environment: key 2"},
		"instance":           {unsigned(t, nil, arr{obj{0: classBy["sgx"], 1: long}, arr{guest(nil)}}), "this instance is not supported"},
		"authorized by":      {amd(obj{0: 0, 1: obj{2: arr{arr{7, m48}}}, 2: arr{1}}), "key 2 is not supported"},
		"element twice":      {amd(guest(nil), guest(nil)), "the same element twice"},
		"unknown element":    {amd(guest(nil), obj{0: 7, 1: obj{1: 99}}), "the element 7 is not supported"},
		"text element":       {amd(obj{0: "x", 1: obj{1: 1}}), "names elements by number"},
		"unknown value":      {amd(guest(obj{11: "x"})), "key 11 is not supported"},
		"no raw":             {amd(obj{0: 3, 1: obj{1: 3}}), "want a raw value"},
		"raw size":           {amd(obj{0: 3, 1: obj{4: long}}), "20 bytes, want 32"},
		"raw untagged":       {amd(obj{0: 3, 1: obj{4: m32}}), "want tagged bytes"},
		"raw mask":           {amd(obj{0: 3, 1: obj{4: tag{Number: 563, Content: arr{m32, m32}}}}), "a mask is not supported"},
		"digest algorithm":   {amd(obj{0: 0, 1: obj{2: arr{arr{1, m32}}}}), "exactly one digest"},
		"two digests":        {amd(obj{0: 0, 1: obj{2: arr{arr{7, m48}, arr{7, m48}}}}), "exactly one digest"},
		"digest size":        {amd(obj{0: 0, 1: obj{2: arr{arr{7, m32}}}}), "32 bytes, want 48"},
		"digest form":        {amd(obj{0: 0, 1: obj{2: arr{7, m48, 1}}}), "want an algorithm and a value"},
		"svn":                {amd(guest(obj{1: "3"})), "want an unsigned integer"},
		"flag value":         {amd(guest(obj{3: obj{3: 1}})), "no boolean"},
		"unknown flag":       {amd(guest(obj{3: obj{-30: true}})), "key -30"},
		"not protected":      {amd(guest(obj{3: obj{9: false}})), "true of every SEV-SNP guest"},
		"image id":           {amd(guest(obj{0: obj{0: "v1"}})), "not the IMAGE_ID"},
		"abi":                {amd(obj{0: 1, 1: obj{0: obj{0: "1.51"}}}), "major.minor.0"},
		"abi number":         {amd(obj{0: 1, 1: obj{0: obj{0: "1.x.0"}}}), "major.minor.0"},
		"element, intel":     {unsigned(t, profileIntel, triple("sgx", obj{0: 83, 1: obj{2: arr{arr{1, m32}}}})), "has no meaning here"},
		"attributes":         {intel(obj{-83: arr{arr{1, m32}}, -82: m32[:16]}), "key -82 is not supported"},
		"not a member":       {intel(obj{-83: tag{Number: 60020, Content: arr{7, arr{arr{1, m32}}}}}), "is a member of"},
		"no member":          {intel(obj{-83: tag{Number: 60020, Content: arr{6, arr{arr{7, m48}}}}}), "no digest by the algorithm"},
		"less than":          {intel(obj{-73: tag{Number: 60010, Content: arr{3, 6}}}), "at least"},
		"statuses together":  {intel(obj{-88: arr{"OutOfDate", "ConfigurationNeeded"}}), "several statuses at once"},
		"unknown status":     {intel(obj{-88: arr{"Fine"}}), "is no TCB status"},
		"status not member":  {intel(obj{-88: tag{Number: 60021, Content: arr{7, arr{"Revoked"}}}}), "is a member of"},
		"registers of sgx":   {intel(obj{14: obj{0: arr{arr{1, m32}}}}), "only a TD has registers"},
		"unknown register":   {unsigned(t, profileIntel, triple("tdx", obj{1: obj{14: obj{5: arr{arr{7, m48}}}}})), "key 5"},
		"empty measurements": {intel(obj{}), "want a map that is not empty"},
	} {
		v, err := refvalues.FromCoRIM(c.in, open)
		if len(v.Entries) > 0 || !errors.Is(err, refvalues.ErrFormat) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v\nwant %s", name, err, c.want)
		}
	}
	if _, err := refvalues.FromCoRIM(make([]byte, refvalues.MaxDocument+1), open); err == nil {
		t.Error("a document beyond the bound was read")
	}
}

func TestValidity(t *testing.T) {
	m := corimMap(t, profileSNP, triple("snp", guest(nil)))
	m[4] = obj{1: tag{Number: 1, Content: at.Unix()}}
	b := encode(t, tag{Number: 501, Content: m})
	for shift, want := range map[time.Duration]bool{0: true, -time.Hour: true, time.Second: false} {
		o := refvalues.CoRIMOptions{AllowUnsigned: true, At: at.Add(shift)}
		if _, err := refvalues.FromCoRIM(b, o); (err == nil) != want {
			t.Errorf("%v: %v", shift, err)
		}
	}
}

// The whole way: a CoRIM, a policy, claims.
func TestAppliedCoRIM(t *testing.T) {
	v, err := refvalues.FromCoRIM(unsigned(t, profileSNP, triple("snp", guest(obj{1: tag{Number: 553, Content: 3}}), obj{0: 2, 1: obj{4: 0}})), open)
	if err != nil {
		t.Fatal(err)
	}
	p := base()
	if err := v.Apply(&p); err != nil {
		t.Fatal(err)
	}
	good := tee.Claims{TEE: tee.SNP, Measurement: m48, SVN: 3, TCB: tee.TCBUpToDate, Vendor: map[string]any{"vmpl": uint64(0), "signing_key": "vcek"}}
	if codes := decides(t, p, good); codes != nil {
		t.Errorf("refused: %v\n%+v", codes, p)
	}
	for name, change := range map[string]func(*tee.Claims){
		"svn":         func(c *tee.Claims) { c.SVN = 2 },
		"vmpl":        func(c *tee.Claims) { c.Vendor = map[string]any{"vmpl": uint64(1), "signing_key": "vcek"} },
		"no vmpl":     func(c *tee.Claims) { c.Vendor = map[string]any{"signing_key": "vcek"} },
		"measurement": func(c *tee.Claims) { c.Measurement = bytes.Repeat([]byte{9}, 48) },
		"tee":         func(c *tee.Claims) { c.TEE = tee.TDX },
		"debug":       func(c *tee.Claims) { c.Debug = true },
	} {
		c := good
		change(&c)
		if codes := decides(t, p, c); codes == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
