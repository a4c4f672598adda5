package call

// ABI is the name of the module whose functions a Wasm program imports; package
// enclave/wasm documents them.
const ABI = "cloister_v1"

// Status is what every function of [ABI] returns.
type Status = uint32

// The statuses.
const (
	OK       Status = 0
	TooSmall Status = 1 // the output buffer; its length word says what is needed
	Failed   Status = 2 // the function "error" has the reason
	Argument Status = 3 // a pointer or another argument is wrong
)

// The seal policies of [ABI]; they also say whose counter is meant.
const (
	PolicyMeasurement = 1
	PolicySigner      = 2
)

// The hash algorithms of [ABI].
const (
	SHA256 = 1
	SHA384 = 2
	SHA512 = 3
)

// MaxName is the longest name of a secret or a counter in bytes.
const MaxName = 256

// MaxUserData is the most that evidence carries for a program, in bytes.
const MaxUserData = 64 << 10
