package dcap

import (
	"errors"
	"strings"
)

// PlatformName is what Intel's service has to be asked about to get a platform's
// collateral. It is what a quote says: nothing of it has been verified.
type PlatformName struct {
	FMSPC [6]byte
	// Authority is "platform" or "processor": who issued the PCK certificate.
	Authority string
}

// Certification is the quote's certification data: as a rule the chain of the PCK
// certificate, the same in every quote of a platform. It is not verified.
func (q *Quote) Certification() []byte { return q.certData }

// PlatformName reads the quote's own PCK certificate.
func (q *Quote) PlatformName() (PlatformName, error) {
	if q.certType != certChain {
		return PlatformName{}, errors.New("the quote does not bring its PCK certificate")
	}
	certs, failure := parseChainPEM(q.certData)
	if failure != nil {
		return PlatformName{}, errors.New(failure.String())
	}
	pck, err := parsePCK(certs[0])
	if err != nil {
		return PlatformName{}, err
	}
	n := PlatformName{FMSPC: pck.FMSPC}
	// Intel's service knows its authorities by these words of their names.
	for _, authority := range []string{"Platform", "Processor"} {
		if strings.Contains(certs[0].Issuer.CommonName, authority) {
			n.Authority = strings.ToLower(authority)
			return n, nil
		}
	}
	return PlatformName{}, errors.New("the PCK certificate is by neither of Intel's authorities")
}
