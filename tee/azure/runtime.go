package azure

import (
	"crypto/rsa"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"unicode"

	"github.com/cloister-cc/cloister/tee"
)

// The key that signs the vTPM's quotes, as the paravisor calls it, and bounds on
// what it says.
const (
	akName        = "HCLAkPub"
	maxKeys       = 16
	maxSettings   = 64
	maxSetting    = 256 // bytes of a text
	maxModulus    = 512 // bytes
	vmIDSetting   = "vmUniqueId"
	vmIDClaim     = "vm_id"
	userDataBytes = 64
)

// runtimeData is what the paravisor says, read from bytes that the hardware signed
// by their digest.
type runtimeData struct {
	ak       *rsa.PublicKey
	settings map[string]any // as claims
	userData string         // hex
}

// runtimeJSON is its form. Names that are not known are ignored: Azure adds some
// from time to time, and they are signed.
type runtimeJSON struct {
	Keys []struct {
		Kid string `json:"kid"`
		Kty string `json:"kty"`
		N   string `json:"n"`
		E   string `json:"e"`
	} `json:"keys"`
	Settings map[string]any `json:"vm-configuration"`
	UserData string         `json:"user-data"`
}

// parseRuntimeData reads the paravisor's JSON and wants one attestation key in it.
// What the key may do ("key_ops") is not looked at: older paravisors say
// "encrypt".
func parseRuntimeData(kind tee.Kind, b []byte) (*runtimeData, error) {
	var j runtimeJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return nil, tee.Refuse(kind, tee.CodeParse, "runtime data", "JSON of the paravisor", fmt.Sprintf("%.200q", err.Error()), "")
	}
	if len(j.Keys) > maxKeys || len(j.Settings) > maxSettings {
		return nil, tee.Refuse(kind, tee.CodeParse, "runtime data", fmt.Sprintf("at most %d keys and %d settings", maxKeys, maxSettings), fmt.Sprintf("%d and %d", len(j.Keys), len(j.Settings)), "")
	}
	r := &runtimeData{settings: make(map[string]any, len(j.Settings))}
	for _, k := range j.Keys {
		if k.Kid != akName {
			continue
		}
		key, err := parseJWK(k.Kty, k.N, k.E)
		if err == nil && r.ak != nil {
			err = errors.New("given twice")
		}
		if err != nil {
			return nil, tee.Refuse(kind, tee.CodeParse, akName, "one RSA key of 2048 bits or more", fmt.Sprintf("%.100s", err.Error()), "")
		}
		r.ak = key
	}
	if r.ak == nil {
		return nil, tee.Refuse(kind, tee.CodeParse, akName, "one RSA key", "none", "")
	}
	for name, v := range j.Settings {
		if v = setting(v); v != nil && len(name) <= maxSetting {
			r.settings[claimName(name)] = v
		}
	}
	if u, err := hex.DecodeString(j.UserData); err == nil && len(u) <= userDataBytes {
		r.userData = hex.EncodeToString(u)
	}
	return r, nil
}

func parseJWK(kty, n, e string) (*rsa.PublicKey, error) {
	modulus, err := base64.RawURLEncoding.DecodeString(n)
	if err != nil {
		return nil, err
	}
	exponent, err := base64.RawURLEncoding.DecodeString(e)
	if err != nil {
		return nil, err
	}
	key := &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: int(new(big.Int).SetBytes(exponent).Int64())}
	if kty != "RSA" || len(modulus) > maxModulus || len(exponent) > 4 || key.N.BitLen() < 2048 || key.E < 3 || key.E&1 == 0 {
		return nil, fmt.Errorf("%.16q of %d bits with exponent %d", kty, key.N.BitLen(), key.E)
	}
	return key, nil
}

// setting is a value as claims have it, nil for those that they do not.
func setting(v any) any {
	switch v := v.(type) {
	case bool:
		return v
	case string:
		if len(v) <= maxSetting {
			return v
		}
	case float64:
		if n := int64(v); v >= 0 && v < 1<<53 && float64(n) == v {
			return n
		}
	}
	return nil
}

// claimName spells a name of Azure's in snake_case: secure-boot is secure_boot,
// vmUniqueId is vm_id.
func claimName(s string) string {
	if s == vmIDSetting {
		return vmIDClaim
	}
	var b strings.Builder
	for i, c := range s {
		switch {
		case c == '-' || c == ' ':
			b.WriteByte('_')
		case unicode.IsUpper(c):
			if i > 0 {
				b.WriteByte('_')
			}
			b.WriteRune(unicode.ToLower(c))
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
}
