package expect

// Unpack is unpack, Authenticode authenticode.
var (
	Unpack       = unpack
	Authenticode = authenticode
)

// HandedOver is the kernel of a guest as QEMU hands it over.
func HandedOver(g Guest) ([]byte, error) { return asQEMUHandsOver(g) }

// LZMA is the identifier of sections that are packed with it, in hex.
const LZMA = lzmaGUID
