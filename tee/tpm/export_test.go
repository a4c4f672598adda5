package tpm

// ParseNVPublic is parseNVPublic, for its fuzz test.
func ParseNVPublic(b []byte) (index uint32, attributes uint32, size int, err error) {
	p, err := parseNVPublic(b)
	if err != nil {
		return 0, 0, 0, err
	}
	return p.index, uint32(p.attributes), p.size, nil
}
