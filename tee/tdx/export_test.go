package tdx

// ParseQuoteResponse is parseQuoteResponse, for its fuzz test.
func ParseQuoteResponse(b []byte) ([]byte, error) { return parseQuoteResponse(b) }
