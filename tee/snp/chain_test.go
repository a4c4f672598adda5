package snp_test

import (
	"encoding/asn1"
	"slices"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/snp"
	"github.com/cloister-cc/cloister/tee/snp/snptest"
)

// validity returns one around snptest.At, in days.
func validity(from, to int) snptest.Validity {
	return snptest.Validity{From: snptest.At.AddDate(0, 0, from), To: snptest.At.AddDate(0, 0, to)}
}

// TestRefusesChains has certificates that a genuine root vouches for, directly
// or not, and that must not vouch for a report.
func TestRefusesChains(t *testing.T) {
	m, genoa := manufacturer(t, snp.Milan), manufacturer(t, snp.Genoa)
	level := []byte{asn1.TagInteger, 1, 9}
	cases := []struct {
		name  string
		kind  snp.SigningKey
		opts  snptest.KeyOptions
		extra []*snptest.Authority // beside the roots
		codes []tee.Code
	}{
		{"VCEK under ASVK", snp.VCEK, snptest.KeyOptions{Issuer: m.ASVK}, nil, []tee.Code{tee.CodeChain}},
		{"VLEK under ASK", snp.VLEK, snptest.KeyOptions{Issuer: m.ASK}, nil, []tee.Code{tee.CodeChain}},
		{"VCEK under ARK", snp.VCEK, snptest.KeyOptions{Issuer: m.ARK}, nil, []tee.Code{tee.CodeChain}},
		{"VCEK of another product's ASK", snp.VCEK, snptest.KeyOptions{Issuer: genoa.ASK}, []*snptest.Authority{genoa.ARK, genoa.ASK}, []tee.Code{tee.CodeProduct}},
		{"VCEK names another product", snp.VCEK, snptest.KeyOptions{ProductName: "Genoa-B1"}, nil, []tee.Code{tee.CodeProduct}},
		{"expired", snp.VCEK, snptest.KeyOptions{Validity: validity(-9, -1)}, nil, []tee.Code{tee.CodeExpired}},
		{"not yet valid", snp.VCEK, snptest.KeyOptions{Validity: validity(1, 9)}, nil, []tee.Code{tee.CodeExpired}},
		{"expired VLEK under ASK", snp.VLEK, snptest.KeyOptions{Issuer: m.ASK, Validity: validity(-9, -1)}, nil, []tee.Code{tee.CodeChain, tee.CodeExpired}},
		{"is a certificate authority", snp.VCEK, snptest.KeyOptions{CA: true}, nil, []tee.Code{tee.CodeParse, tee.CodeCollateralMissing}},
		{"unknown product", snp.VCEK, snptest.KeyOptions{ProductName: "Rome"}, nil, []tee.Code{tee.CodeParse, tee.CodeCollateralMissing}},
		{"chip and provider", snp.VCEK, snptest.KeyOptions{Extensions: map[string][]byte{"5": {asn1.TagIA5String, 1, 'x'}}}, nil, []tee.Code{tee.CodeParse, tee.CodeCollateralMissing}},
		{"no chip", snp.VCEK, snptest.KeyOptions{Extensions: map[string][]byte{"4": nil}}, nil, []tee.Code{tee.CodeParse, tee.CodeCollateralMissing}},
		{"short chip id", snp.VCEK, snptest.KeyOptions{ChipID: make([]byte, 8)}, nil, []tee.Code{tee.CodeParse, tee.CodeCollateralMissing}},
		{"no microcode level", snp.VCEK, snptest.KeyOptions{Extensions: map[string][]byte{"3.8": nil}}, nil, []tee.Code{tee.CodeParse, tee.CodeCollateralMissing}},
		{"reserved level", snp.VCEK, snptest.KeyOptions{Extensions: map[string][]byte{"3.6": level}}, nil, []tee.Code{tee.CodePlatform}},
		{"another level", snp.VCEK, snptest.KeyOptions{Extensions: map[string][]byte{"3.3": level}}, nil, []tee.Code{tee.CodePlatform}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			k := m.VCEK
			if c.kind == snp.VLEK {
				k = m.VLEK
			}
			key := k(t, c.opts)
			in := m.Input()
			for _, a := range c.extra {
				in.Roots = append(in.Roots, a.Certificate)
			}
			refuses(t, key.Evidence(key.Report()), in, c.codes...)
		})
	}
}

func TestExpiredAuthorities(t *testing.T) {
	m := *manufacturer(t, snp.Milan)
	m.ASK = snptest.NewAuthority(t, "SEV-Milan", m.ARK, validity(-9, -1))
	k := m.VCEK(t, snptest.KeyOptions{})
	refuses(t, k.Evidence(k.Report()), m.Input(), tee.CodeExpired)

	root := snptest.NewAuthority(t, "ARK-Milan", nil, validity(-9, -1))
	m.ARK, m.ASK = root, snptest.NewAuthority(t, "SEV-Milan", root, snptest.Validity{})
	k = m.VCEK(t, snptest.KeyOptions{})
	refuses(t, k.Evidence(k.Report()), m.Input(), tee.CodeExpired)
}

// TestNames: nothing but names tells an ASK from an ASVK and products apart, so
// an authority under a genuine root with another name does not do.
func TestNames(t *testing.T) {
	m := manufacturer(t, snp.Milan)
	for _, name := range []string{"SEV-Milan-2", "SEV-Genoa", "ARK-Milan", ""} {
		n := *m
		n.ASK = snptest.NewAuthority(t, name, m.ARK, snptest.Validity{})
		k := n.VCEK(t, snptest.KeyOptions{})
		if name == "ARK-Milan" { // looks self-signed, so counts as a root
			refuses(t, k.Evidence(k.Report()), n.Input(), tee.CodeChain)
			continue
		}
		refuses(t, k.Evidence(k.Report()), n.Input(), tee.CodeProduct)
	}
	n := *m
	n.ARK = snptest.NewAuthority(t, "ARK-Genoa", nil, snptest.Validity{})
	n.ASK = snptest.NewAuthority(t, "SEV-Milan", n.ARK, snptest.Validity{})
	k := n.VCEK(t, snptest.KeyOptions{})
	refuses(t, k.Evidence(k.Report()), n.Input(), tee.CodeProduct)
}

// TestLeafCannotIssue: whoever has one chip's key cannot make others.
func TestLeafCannotIssue(t *testing.T) {
	m := manufacturer(t, snp.Milan)
	notCA := snptest.NewLeafAuthority(t, "SEV-Milan", m.ASK)
	k := m.VCEK(t, snptest.KeyOptions{Issuer: notCA})
	ev := k.Evidence(k.Report())
	ev.Certificates = append(ev.Certificates, notCA.Certificate.Raw)
	refuses(t, ev, m.Input(), tee.CodeChain)
	in := m.Input()
	in.Roots = append(in.Roots, notCA.Certificate)
	refuses(t, ev, in, tee.CodeChain)
}

// TestGivenSigner: a signing certificate may come with the evidence, for as long
// as a trusted root issued it, and is never remembered.
func TestGivenSigner(t *testing.T) {
	m, other := manufacturer(t, snp.Milan), snptest.New(t, snp.Milan)
	k := m.VCEK(t, snptest.KeyOptions{})
	in := tee.Input{Roots: tee.Roots{m.ARK.Certificate}, At: snptest.At}
	ev := k.Evidence(k.Report())
	bare := ev
	ev.Certificates = [][]byte{m.ARK.Certificate.Raw, m.ASK.Certificate.Raw, k.Certificate}
	v := snp.New()
	for range 2 {
		if _, _, err := v.Verify(ev, in); err != nil {
			t.Fatal(err)
		}
		claims, _, err := v.Verify(bare, in)
		wantCodes(t, claims, err, tee.CodeChain)
	}
	refuses(t, ev, tee.Input{Roots: tee.Roots{other.ARK.Certificate}, At: snptest.At}, tee.CodeChain)
	// A new certificate for the ASK's key does where the anchored one expired.
	late := *m
	late.ASK = m.ASK.Reissue(t, m.ARK, validity(-9, -1))
	refuses(t, bare, late.Input(), tee.CodeExpired)
	ev.Certificates = [][]byte{k.Certificate, m.ASK.Certificate.Raw}
	verifies(t, ev, late.Input())
}

// TestPicksTheRightLeaf has the right certificate among wrong ones, at any place.
func TestPicksTheRightLeaf(t *testing.T) {
	m, other := manufacturer(t, snp.Milan), snptest.New(t, snp.Milan)
	k := m.VCEK(t, snptest.KeyOptions{})
	forged := other.VCEK(t, snptest.KeyOptions{ChipID: k.ChipID, TCB: k.TCB}) // fits, but is not AMD's
	old := m.VCEK(t, snptest.KeyOptions{ChipID: k.ChipID, TCB: snp.TCB{Bootloader: 1, Microcode: 7}})
	certs := [][]byte{forged.Certificate, old.Certificate, m.VLEK(t, snptest.KeyOptions{}).Certificate, []byte("junk"),
		m.VCEK(t, snptest.KeyOptions{}).Certificate, m.ASK.Certificate.Raw, k.Certificate}
	ev := k.Evidence(k.Report())
	for range certs {
		certs = append(certs[1:], certs[0])
		for split := range certs {
			ev.Certificates = certs[:split]
			in := m.Input()
			in.Endorsements.Certificates = certs[split:]
			verifies(t, ev, in)
		}
	}
	ev.Certificates = slices.DeleteFunc(slices.Clone(certs), func(c []byte) bool { return string(c) == string(k.Certificate) })
	refuses(t, ev, m.Input(), tee.CodeChain, tee.CodeSignature) // the forged one fits best

	// If none is right, the failures are those of the one that fits best.
	expired := m.VCEK(t, snptest.KeyOptions{Validity: validity(-9, -1)})
	for _, c := range [][][]byte{{old.Certificate, expired.Certificate}, {expired.Certificate, old.Certificate}} {
		ev := expired.Evidence(expired.Report())
		ev.Certificates = c
		refuses(t, ev, m.Input(), tee.CodeExpired)
	}
}

func TestRevocation(t *testing.T) {
	m, other, genoa := manufacturer(t, snp.Milan), snptest.New(t, snp.Milan), manufacturer(t, snp.Genoa)
	clean, foreign := m.ARK.CRL(t, snptest.Validity{}), genoa.ARK.CRL(t, snptest.Validity{})
	expired := m.ARK.CRL(t, validity(-9, -1))
	cases := []struct {
		name     string
		kind     snp.SigningKey
		lists    [][]byte
		findings []tee.Code
		codes    []tee.Code
	}{
		{"none", snp.VCEK, nil, []tee.Code{tee.CodeCollateralMissing}, nil},
		{"clean", snp.VCEK, [][]byte{clean}, nil, nil},
		{"clean, other products' too", snp.VLEK, [][]byte{foreign, clean, foreign}, nil, nil},
		{"other product's alone", snp.VCEK, [][]byte{foreign}, []tee.Code{tee.CodeCollateralMissing}, nil},
		{"clean beside an expired one", snp.VCEK, [][]byte{expired, clean}, nil, nil},
		{"ASVK revoked, VCEK", snp.VCEK, [][]byte{m.ARK.CRL(t, snptest.Validity{}, m.ASVK.Certificate)}, nil, nil},
		{"ASVK revoked, VLEK", snp.VLEK, [][]byte{m.ARK.CRL(t, snptest.Validity{}, m.ASVK.Certificate)}, nil, []tee.Code{tee.CodeRevoked}},
		{"ASK revoked", snp.VCEK, [][]byte{m.ARK.CRL(t, snptest.Validity{}, genoa.ASK.Certificate, m.ASK.Certificate)}, nil, []tee.Code{tee.CodeRevoked}},
		{"ARK revoked", snp.VCEK, [][]byte{m.ARK.CRL(t, snptest.Validity{}, m.ARK.Certificate)}, nil, []tee.Code{tee.CodeRevoked}},
		{"revoked in one of two", snp.VCEK, [][]byte{clean, m.ARK.CRL(t, snptest.Validity{}, m.ASK.Certificate)}, nil, []tee.Code{tee.CodeRevoked}},
		{"revoked in an expired one", snp.VCEK, [][]byte{clean, m.ARK.CRL(t, validity(-9, -1), m.ASK.Certificate)}, nil, []tee.Code{tee.CodeRevoked}},
		{"expired", snp.VCEK, [][]byte{expired}, nil, []tee.Code{tee.CodeCollateralExpired}},
		{"from the future", snp.VCEK, [][]byte{m.ARK.CRL(t, validity(1, 9))}, nil, []tee.Code{tee.CodeCollateralExpired}},
		{"signed by another root", snp.VCEK, [][]byte{other.ARK.CRL(t, snptest.Validity{})}, nil, []tee.Code{tee.CodeSignature}},
		{"signed by another root beside a clean one", snp.VCEK, [][]byte{clean, other.ARK.CRL(t, snptest.Validity{})}, nil, []tee.Code{tee.CodeSignature}},
		{"altered", snp.VCEK, [][]byte{flipLast(clean)}, nil, []tee.Code{tee.CodeSignature}},
		{"junk", snp.VCEK, [][]byte{clean, []byte("junk")}, nil, []tee.Code{tee.CodeParse}},
		{"too large", snp.VCEK, [][]byte{make([]byte, 1<<20)}, nil, []tee.Code{tee.CodeParse}},
		{"too many", snp.VCEK, slices.Repeat([][]byte{clean}, 17), nil, []tee.Code{tee.CodeParse}},
	}
	v := snp.New()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			k := m.VCEK(t, snptest.KeyOptions{})
			if c.kind == snp.VLEK {
				k = m.VLEK(t, snptest.KeyOptions{})
			}
			in := m.Input()
			in.Endorsements.CRLs = c.lists
			for range 2 { // the second time by remembered lists
				claims, findings, err := v.Verify(k.Evidence(k.Report()), in)
				if len(c.codes) > 0 {
					wantCodes(t, claims, err, c.codes...)
				} else if err != nil || !slices.Equal(codesOf(findings), c.findings) {
					t.Fatalf("findings %v, want %v; error %v", findings, c.findings, err)
				}
			}
		})
	}
}

// TestRevocationListEnds: a list that was remembered while it was current does
// not do once it is not.
func TestRevocationListEnds(t *testing.T) {
	m := manufacturer(t, snp.Milan)
	k := m.VCEK(t, snptest.KeyOptions{})
	in := m.Input()
	in.Endorsements.CRLs = [][]byte{m.ARK.CRL(t, validity(-7, 7))}
	v := snp.New()
	for _, c := range []struct {
		at   time.Time
		good bool
	}{{snptest.At, true}, {snptest.At.AddDate(0, 0, 7), true}, {snptest.At.AddDate(0, 0, 8), false}, {snptest.At.AddDate(0, 0, -8), false}, {snptest.At, true}} {
		in.At = c.at
		if _, _, err := v.Verify(k.Evidence(k.Report()), in); (err == nil) != c.good {
			t.Errorf("at %s: %v", c.at, err)
		}
	}
}

func flipLast(b []byte) []byte {
	b = slices.Clone(b)
	b[len(b)-1] ^= 1
	return b
}
