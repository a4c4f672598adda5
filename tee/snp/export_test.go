package snp

// ReadDeviceResponse is readDeviceResponse, for its fuzz test.
func ReadDeviceResponse(b []byte, reportData [64]byte) ([]byte, error) {
	return readDeviceResponse(b, reportData)
}
