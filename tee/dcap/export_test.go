package dcap

// CertificateBytes is how many bytes of the end of a quote are its certificates.
func CertificateBytes(q *Quote) int { return len(q.certData) + q.Trailing }

// ParseDocument is parseDocument, for its fuzz test.
func ParseDocument(b []byte) (isIntels bool, err error) {
	d := parseDocument(b)
	if d == nil {
		return false, nil
	}
	if d.parseErr == nil && (d.info == nil) == (d.identity == nil) {
		panic("neither one nor the other")
	}
	return true, d.parseErr
}
