package maa

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // a thumbprint that Microsoft's clients show, not a check
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/azurepolicy"
)

// tokenAnswer is the answer of all calls that give a token.
type tokenAnswer struct {
	Token string `json:"token"`
}

// stated is a claim of the service itself, as a token.
func (s *Service) stated(c call, claims map[string]any) (any, error) {
	if err := s.stamp(claims, c.base, attest.DefaultTokenLifetime); err != nil {
		return nil, err
	}
	token, err := c.provider.signing().sign(claims, c.base+"/certs")
	return tokenAnswer{token}, err
}

func knownType(typ string) error {
	if _, ok := attestationTypes()[typ]; !ok {
		return badRequest("attestation type: want SgxEnclave, OpenEnclave, SevSnpVm, TdxVm, AzureGuest or Tpm", "")
	}
	return nil
}

// getPolicy gives the JWS that set the policy. Policies are no secret: a relying
// party should look at them.
func (s *Service) getPolicy(c call, typ string) (any, error) {
	if err := knownType(typ); err != nil {
		return nil, err
	}
	jws := envelopeOf("")
	if p := c.provider.policies[typ]; p != nil {
		jws = p.jws
	}
	return s.stated(c, map[string]any{"x-ms-policy": jws})
}

// message reads the JWS in the body: as it is, or as a JSON string.
func message(c call) (string, error) {
	b, err := body(c)
	if err != nil {
		return "", err
	}
	b = bytes.TrimSpace(b)
	if len(b) > 0 && b[0] == '"' {
		var s string
		if json.Unmarshal(b, &s) != nil {
			return "", badRequest("the body is not a JWS", "")
		}
		return s, nil
	}
	return string(b), nil
}

// opened is the message of a change, sent by the owner and, to an isolated
// provider, signed by one of its policy signers.
func (s *Service) opened(st *state, jws string) (azurepolicy.Message, error) {
	if !st.Isolated {
		return azurepolicy.OpenAnyMessage(jws)
	}
	loaded, err := st.load()
	if err != nil {
		return azurepolicy.Message{}, err
	}
	return azurepolicy.OpenMessage(jws, loaded.signers)
}

func (s *Service) setPolicy(c call, typ string) (any, error) {
	if err := knownType(typ); err != nil {
		return nil, err
	}
	jws, err := message(c)
	if err != nil {
		return nil, err
	}
	var m azurepolicy.Message
	_, err = s.update(s.cfg.Caller(c.Request), c.provider.state.Name, func(st *state) error {
		if m, err = s.opened(st, jws); err != nil {
			return err
		}
		p, err := loadPolicy(jws)
		if err != nil {
			return err
		}
		if unknown := unknownProperty(p.rules); unknown != "" {
			return fmt.Errorf("%w: issueproperty %q: this service does not act on it", ErrInvalid, unknown)
		}
		st.Policies[typ] = jws
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s.changedPolicy(c, "Updated", jws, m)
}

func (s *Service) resetPolicy(c call, typ string) (any, error) {
	if err := knownType(typ); err != nil {
		return nil, err
	}
	jws, err := message(c)
	if err != nil {
		return nil, err
	}
	var m azurepolicy.Message
	_, err = s.update(s.cfg.Caller(c.Request), c.provider.state.Name, func(st *state) error {
		if m, err = s.opened(st, jws); err != nil {
			return err
		}
		if text := strings.TrimSpace(string(m.Payload)); text != "" && text != `""` && text != "null" {
			return fmt.Errorf("%w: a reset has no payload", ErrInvalid)
		}
		delete(st.Policies, typ)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s.changedPolicy(c, "Removed", jws, m)
}

func (s *Service) changedPolicy(c call, result, jws string, m azurepolicy.Message) (any, error) {
	digest := sha256.Sum256([]byte(jws))
	claims := map[string]any{"x-ms-policy-result": result, "x-ms-policy-token-hash": encode64(digest[:])}
	if m.Signer != nil {
		jwk, err := keyJWK(m.Signer)
		if err != nil {
			return nil, err
		}
		claims["x-ms-policy-signer"] = jwk
	}
	return s.stated(c, claims)
}

// certificates lists the policy signers.
func (s *Service) certificates(c call) (any, error) {
	keys := []any{}
	for _, cert := range c.provider.signers {
		jwk, err := keyJWK(cert)
		if err != nil {
			return nil, err
		}
		keys = append(keys, jwk)
	}
	return s.stated(c, map[string]any{"x-ms-policy-certificates": map[string]any{"keys": keys}})
}

func (s *Service) addCertificate(c call) (any, error) {
	return s.changeCertificates(c, "IsPresent", func(st *state, der []byte) error {
		if slices.ContainsFunc(st.Signers, func(have []byte) bool { return bytes.Equal(have, der) }) {
			return nil
		}
		if len(st.Signers) == MaxSigners {
			return fmt.Errorf("%w: the provider has %d policy signers, and no room for more", ErrInvalid, MaxSigners)
		}
		st.Signers = append(st.Signers, der)
		return nil
	})
}

func (s *Service) removeCertificate(c call) (any, error) {
	return s.changeCertificates(c, "IsAbsent", func(st *state, der []byte) error {
		left := slices.DeleteFunc(st.Signers, func(have []byte) bool { return bytes.Equal(have, der) })
		if len(left) == 0 {
			return fmt.Errorf("%w: the last policy signer cannot be removed", ErrInvalid)
		}
		st.Signers = left
		return nil
	})
}

// changeCertificates changes the policy signers of an isolated provider, as one of
// them asks in a signed message.
func (s *Service) changeCertificates(c call, result string, change func(*state, []byte) error) (any, error) {
	jws, err := message(c)
	if err != nil {
		return nil, err
	}
	var der []byte
	_, err = s.update(s.cfg.Caller(c.Request), c.provider.state.Name, func(st *state) error {
		if !st.Isolated {
			return fmt.Errorf("%w: only isolated providers have policy signers: name the first when the provider is created", ErrInvalid)
		}
		m, err := s.opened(st, jws)
		if err != nil {
			return err
		}
		if der, err = certificateIn(m.Payload); err != nil {
			return err
		}
		return change(st, der)
	})
	if err != nil {
		return nil, err
	}
	print := sha1.Sum(der) //nolint:gosec // see the import
	return s.stated(c, map[string]any{"x-ms-certificate-thumbprint": hex.EncodeToString(print[:]), "x-ms-policycertificates-result": result})
}

// certificateIn reads {"policyCertificate": JWK}: its x5c holds the certificate.
// What else the JWK says of the key is not used.
func certificateIn(payload []byte) ([]byte, error) {
	var m struct {
		Certificate struct {
			X5C []string `json:"x5c"`
			Kty string   `json:"kty"`
			Kid string   `json:"kid"`
			Alg string   `json:"alg"`
			Use string   `json:"use"`
		} `json:"policyCertificate"`
	}
	if err := attest.DecodeExact(payload, &m, "policyCertificate", "x5c", "kty", "kid", "alg", "use"); err != nil || len(m.Certificate.X5C) == 0 {
		return nil, fmt.Errorf("%w: the payload is not {\"policyCertificate\": {\"kty\": …, \"x5c\": […]}}", ErrInvalid)
	}
	der, err := base64.StdEncoding.DecodeString(m.Certificate.X5C[0])
	if err != nil {
		return nil, fmt.Errorf("%w: x5c does not hold base64 of DER", ErrInvalid)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("%w: x5c does not hold a certificate", ErrInvalid)
	}
	_, err = keyJWK(cert)
	return cert.Raw, err
}
