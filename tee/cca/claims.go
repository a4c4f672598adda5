package cca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/cloister-cc/cloister/tee"
)

// claimsFrom says what a verified token proves.
func claimsFrom(t *Token, cpak *ecdsa.PublicKey) tee.Claims {
	c := tee.Claims{
		TEE: tee.ArmCCA, Debug: t.Platform.Debug(), Measurement: bytes.Clone(t.Realm.Initial), ReportData: bytes.Clone(t.Realm.Challenge),
		Platform: KeyID(cpak), TCB: tee.TCBUnknown, Vendor: t.Platform.claims(),
	}
	if value := t.Realm.Personalization; !allZero(value[:32]) && allZero(value[32:]) {
		c.LaunchDigest = bytes.Clone(value[:32])
	}
	t.Realm.addClaims(c.Vendor)
	return c
}

func (p Platform) claims() map[string]any {
	components := make([]any, 0, len(p.Components))
	for _, s := range p.Components {
		components = append(components, map[string]any{
			"type": s.Type, "measurement": hex.EncodeToString(s.Measurement), "version": s.Version, "signer": hex.EncodeToString(s.Signer), "hash_algorithm": s.Hash,
		})
	}
	return map[string]any{
		"profile":                 p.Profile,
		"implementation_id":       hex.EncodeToString(p.Implementation),
		"instance_id":             hex.EncodeToString(p.Instance),
		"platform_config":         hex.EncodeToString(p.Config),
		"lifecycle":               p.LifecycleName(),
		"lifecycle_value":         uint64(p.Lifecycle),
		"software_components":     components,
		"platform_hash_algorithm": p.Hash,
		"verification_service":    p.Service,
	}
}

func (r Realm) addClaims(m map[string]any) {
	key := sha256.Sum256(r.PublicKey)
	m["realm_profile"] = r.Profile
	m["realm_initial_measurement"] = hex.EncodeToString(r.Initial)
	m["realm_personalization_value"] = hex.EncodeToString(r.Personalization)
	m["realm_hash_algorithm"] = r.Hash
	m["realm_key"] = hex.EncodeToString(key[:])
	for i, v := range r.Extensible {
		m[fmt.Sprintf("rem%d", i)] = hex.EncodeToString(v)
	}
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
