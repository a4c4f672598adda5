package demo

// Report is what happened; its JSON form is the output of `cloister demo -o json`
// and a contract.
type Report struct {
	// OK is true only if the result is right, every attack was refused for the
	// expected reason, the hunt found nothing but what was planted, and every
	// receipt verified.
	OK        bool    `json:"ok"`
	Simulated bool    `json:"simulated"`
	Seconds   float64 `json:"seconds"`
	// Problems lists why OK is false.
	Problems    []string  `json:"problems"`
	Measurement string    `json:"measurement"` // of the program that the hospitals allow
	Result      Result    `json:"result"`
	Attacks     []Attack  `json:"attacks"`
	Canary      Canary    `json:"canary"`
	Receipts    []Receipt `json:"receipts"`
	// ReceiptDir holds the receipts, and root.pem to verify them with.
	ReceiptDir string `json:"receipt_dir"`
	// Kept says how to reach the platform when it was left running.
	Kept *Kept `json:"kept,omitempty"`
}

// Result is what both hospitals learned; see examples/cohort.
type Result struct {
	Patients  int `json:"patients"`
	Malignant int `json:"malignant"`
	Columns   []struct {
		Name        string  `json:"name"`
		Correlation float64 `json:"correlation"`
	} `json:"columns"`
	Joint Score `json:"joint"`
	Alone Score `json:"alone"`
	Model Model `json:"model"`
}

// Score is what a model gets right on patients it was not trained on.
type Score struct {
	Columns int     `json:"columns"`
	Tested  int     `json:"tested"`
	Correct int     `json:"correct"`
	AUC     float64 `json:"auc"`
}

// Model is a logistic regression.
type Model struct {
	Intercept float64 `json:"intercept"`
	Columns   []struct {
		Name   string  `json:"name"`
		Weight float64 `json:"weight"`
		Mean   float64 `json:"mean"`
		Scale  float64 `json:"scale"`
	} `json:"columns"`
}

// Attack is one thing that the owner of the machine tried.
type Attack struct {
	Name    string `json:"name"`
	Refused bool   `json:"refused"` // for the expected reason
	Code    string `json:"code"`    // the reason given
	Want    string `json:"want"`    // the reason expected
	Detail  string `json:"detail,omitempty"`
}

// Canary is the outcome of the hunt for secrets on the host's side.
type Canary struct {
	Searched []Place `json:"searched"`
	// Hits counts the secrets found; Found says where.
	Hits  int      `json:"hits"`
	Found []string `json:"found"`
	// ControlFound is true if the hunt found the planted secret in every kind of
	// place: a hunt that finds nothing anywhere proves nothing.
	ControlFound bool `json:"control_found"`
	// Unsearched lists places that could not be searched; there must be none.
	Unsearched []string `json:"unsearched"`
}

// Place is one kind of place that was searched.
type Place struct {
	Kind    string `json:"kind"`
	Items   int    `json:"items"`
	Bytes   int64  `json:"bytes"`
	Control bool   `json:"control_found"`
}

// Receipt is one grant that left a receipt.
type Receipt struct {
	Number   uint64 `json:"number"`
	Action   string `json:"action"`
	Key      string `json:"key"`
	File     string `json:"file"` // in Report.ReceiptDir
	Verified bool   `json:"verified"`
}

// Kept says how to go on with a platform that was left running.
type Kept struct {
	DataDir    string            `json:"data_dir"`
	PID        int               `json:"pid"`
	Identities map[string]string `json:"identities"` // hospital to key pair file
}
