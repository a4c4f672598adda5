package azurepolicy

import (
	"encoding/hex"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/cloister-cc/cloister/tee"
)

// Names of our own claims, which every kind of TEE has beside Microsoft's.
const (
	ownPrefix      = "x-cloister-"
	ClaimSimulated = ownPrefix + "simulated"
	ClaimDebug     = ownPrefix + "debug"
)

// IncomingClaims returns the incoming claims that policies of Azure Attestation
// are written against, from a claims tree (tee.Claims.Tree) of verified
// evidence. The issuer of all is AttestationService. Lists become one claim for
// each element, objects become text that holds JSON (for JmesPath). A claim that
// the tree does not have is left out, so that a condition on it does not hold.
//
// x-ms-compliance-status is Microsoft's word for its own VM images: it is only
// there if the tree has compliance_status in the TEE's branch.
func IncomingClaims(tree map[string]any) []Claim { return IncomingOf(TokenClaims(tree)) }

// IncomingOf is [IncomingClaims] for who has the claims in the shape of a token
// already, as [TokenClaims] gives them.
func IncomingOf(token map[string]any) []Claim {
	out := make([]Claim, 0, len(token)+8)
	for _, name := range slices.Sorted(maps.Keys(token)) {
		out = appendClaims(out, name, token[name])
	}
	if token[ownPrefix+"tee"] == string(tee.SGX) {
		// The names of the oldest policies ("Claim sets", deprecated claims).
		for _, old := range sgxDeprecated() {
			if v, ok := token[old.path]; ok {
				out = appendClaims(out, old.claim, v)
			}
		}
	}
	return out
}

func appendClaims(out []Claim, name string, v any) []Claim {
	switch v := v.(type) {
	case []any:
		for _, x := range v {
			out = appendClaims(out, name, x)
		}
		return out
	case map[string]any:
		b, err := json.Marshal(v)
		if err != nil {
			return out
		}
		return append(out, Claim{Type: name, Value: string(b), Issuer: IssuerService, ReadOnly: readOnly(name)})
	}
	if new(value).set(v) != nil {
		return out
	}
	return append(out, Claim{Type: name, Value: v, Issuer: IssuerService, ReadOnly: readOnly(name)})
}

// readOnly: "PCRs are only read-only and thus cannot be used with issue
// operation" (version 1.2, PCR value evaluation).
func readOnly(name string) bool { return name == "pcrs" }

// TokenClaims returns the same claims in the shape of a token: a flat object,
// but for x-ms-isolation-tee, which holds the hardware's claims of an Azure VM.
// It is what release policies (package releasepolicy) are evaluated over.
func TokenClaims(tree map[string]any) map[string]any {
	kind, _ := tree["tee"].(string)
	branch := branchOf(tree, kind)
	out := make(map[string]any, 48)
	fill(out, ownClaims(), tree, branch)
	switch tee.Kind(kind) {
	case tee.SNP:
		hardware(out, "sevsnpvm", snpClaims(), tree, branch)
	case tee.TDX:
		hardware(out, "tdxvm", tdxClaims(), tree, branch)
	case tee.SGX:
		hardware(out, "sgx", sgxClaims(), tree, branch)
	case tee.AzureSNP:
		azure(out, "sevsnpvm", snpClaims(), tree, branch)
	case tee.AzureTDX:
		azure(out, "tdxvm", tdxClaims(), tree, branch)
	case tee.TPM:
		hardware(out, "tpm", tpmClaims(), tree, branch)
	case tee.Software:
		hardware(out, "software", nil, tree, branch)
	case tee.Nitro, tee.ArmCCA, tee.NvidiaGPU: // Microsoft has no name for it: only our own claims
	}
	return out
}

func branchOf(tree map[string]any, kind string) map[string]any {
	branch, _ := tree[strings.ReplaceAll(kind, "-", "_")].(map[string]any)
	return branch
}

// hardware adds the claims of one TEE.
func hardware(out map[string]any, typ string, table []mapping, tree, branch map[string]any) {
	out["x-ms-attestation-type"] = typ
	out["x-ms-ver"] = "1.0"
	if s, ok := branch["compliance_status"].(string); ok {
		out["x-ms-compliance-status"] = s
	}
	fill(out, table, tree, branch)
}

// azure adds the claims of an Azure VM: those of its vTPM outside, those of the
// hardware below it in x-ms-isolation-tee. There the tree's own claims are those
// of the quote; only what it says of the machine as a whole is the hardware's.
func azure(out map[string]any, typ string, table []mapping, tree, branch map[string]any) {
	hardware(out, "azurevm", azureClaims(), tree, branch)
	below, _ := branch["hardware"].(map[string]any)
	inner := make(map[string]any, len(table)+3)
	fill(inner, ofMachine(table), tree, below)
	inner["x-ms-attestation-type"] = typ
	if s, ok := out["x-ms-compliance-status"]; ok {
		inner["x-ms-compliance-status"] = s
		delete(out, "x-ms-compliance-status")
	}
	if settings, ok := branch["vm_configuration"].(map[string]any); ok {
		inner["x-ms-runtime"] = map[string]any{"vm-configuration": vmConfiguration(settings)}
	}
	out["x-ms-isolation-tee"] = inner
}

// ofMachine leaves out the rows that would take the quote's report data, the
// VM's name or its security version for those of the hardware's report.
func ofMachine(table []mapping) []mapping {
	return slices.DeleteFunc(table, func(m mapping) bool {
		switch m.path {
		case "debug", "measurement", "tcb_status":
			return false
		}
		return !strings.HasPrefix(m.path, ".")
	})
}

// vmConfiguration gives the paravisor's settings their names back.
func vmConfiguration(settings map[string]any) map[string]any {
	out := make(map[string]any, len(settings))
	for name, v := range settings {
		if name == "vm_id" {
			out["vmUniqueId"] = v
			continue
		}
		out[strings.ReplaceAll(name, "_", "-")] = v
	}
	return out
}

// mapping says where a claim's value is in the tree: at a path of names with
// dots, from the root or, with a dot in front, from the TEE's branch.
type mapping struct {
	claim, path string
	convert     func(any) any // nil: as it is
}

func fill(out map[string]any, table []mapping, tree, branch map[string]any) {
	for _, m := range table {
		from, path := tree, m.path
		if rest, ok := strings.CutPrefix(path, "."); ok {
			from, path = branch, rest
		}
		v, ok := walk(from, path)
		if !ok {
			continue
		}
		if m.convert != nil {
			v = m.convert(v)
		}
		if v != nil && v != "" {
			out[m.claim] = v
		}
	}
}

func walk(from map[string]any, path string) (any, bool) {
	for {
		first, rest, more := strings.Cut(path, ".")
		v, ok := from[first]
		if !ok || !more {
			return v, ok
		}
		if from, ok = v.(map[string]any); !ok {
			return nil, false
		}
		path = rest
	}
}

// littleEndianHex spells a 64-bit field as Microsoft's TDX profile does: the
// bytes as they are in the report, in hex. Text is taken to be that already.
func littleEndianHex(v any) any {
	n, ok := v.(uint64)
	if !ok {
		return v
	}
	var b [8]byte
	for i := range b {
		b[i] = byte(n >> (8 * i))
	}
	return hex.EncodeToString(b[:])
}

// seamSVN is the SVN of the TDX module, 16 bits in the first bytes of
// TEE_TCB_SVN ("EAT profile for TDX", tdx_seamsvn).
func seamSVN(v any) any {
	s, _ := v.(string)
	b, err := hex.DecodeString(s)
	if err != nil || len(b) < 2 {
		return nil
	}
	return uint64(b[0]) | uint64(b[1])<<8
}

// dbgstat is the debug status in the words of EAT (RFC 9711 section 4.2.9).
func dbgstat(v any) any {
	switch v {
	case true:
		return "enabled"
	case false:
		return "disabled"
	}
	return nil
}

// small keeps a number that is beyond the language's integers out.
func small(v any) any {
	if n, ok := v.(uint64); ok && n > math.MaxInt64 {
		return nil
	}
	return v
}

// pcrIndexes lists the PCRs that are quoted, in the bank that has most to say.
func pcrIndexes(v any) any {
	out := []any{}
	for i := range uint64(maxPCR + 1) {
		if _, ok := pcr(v, "sha256", i); ok {
			out = append(out, i)
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

const maxPCR = 31

func pcr(v any, bank string, i uint64) (any, bool) {
	banks, _ := v.(map[string]any)
	values, _ := banks[bank].(map[string]any)
	x, ok := values[strconv.FormatUint(i, 10)]
	return x, ok
}

// pcrsJSON spells the quoted PCRs as the samples of version 1.2 query them:
// {"PCRs": [{"Index": 0, "Digests": {"SHA256": "…"}}]}, the values in hex.
func pcrsJSON(v any) any {
	list := []any{}
	for i := range uint64(maxPCR + 1) {
		digests := map[string]any{}
		for _, bank := range []string{"sha1", "sha256", "sha384"} {
			if x, ok := pcr(v, bank, i); ok {
				digests[strings.ToUpper(bank)] = x
			}
		}
		if len(digests) > 0 {
			list = append(list, map[string]any{"Index": i, "Digests": digests})
		}
	}
	if len(list) == 0 {
		return nil
	}
	return map[string]any{"PCRs": list}
}

// certified says whether the TPM's key has a certificate that was checked.
func certified(v any) any {
	if s, ok := v.(string); ok {
		return s == "certificate"
	}
	return nil
}
