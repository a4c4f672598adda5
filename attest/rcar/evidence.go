package rcar

import (
	"encoding/base64"
	"encoding/json"
	"slices"

	"github.com/cloister-cc/cloister/tee"
)

// guestTEE is a TEE of the protocol with how its evidence is read.
type guestTEE struct {
	kind tee.Kind
	read func(json.RawMessage) (tee.Evidence, error)
}

// teeOf returns the TEE that a guest names, in the spellings of kbs-types before
// and after it put hyphens into names.
func teeOf(name string) (guestTEE, error) {
	switch name {
	case "snp":
		return guestTEE{tee.SNP, readSNP}, nil
	case "tdx":
		return guestTEE{tee.TDX, readTDX}, nil
	case "sgx":
		return guestTEE{tee.SGX, readSGX}, nil
	case "az-snp-vtpm", "azsnpvtpm":
		return guestTEE{tee.AzureSNP, readAzure}, nil
	case "az-tdx-vtpm", "aztdxvtpm":
		return guestTEE{tee.AzureTDX, readAzure}, nil
	case "sample", "sample-device", "sampledevice":
		return guestTEE{}, refuse("tee: sample evidence proves nothing and is never accepted")
	}
	if slices.Contains([]string{"cca", "csv", "se", "sev", "tpm", "nvidia", "nvidia-dpu", "hygon-dcu", "hygondcu"}, name) {
		return guestTEE{}, refuse("tee: this TEE is not verified here")
	}
	return guestTEE{}, refuse("tee: want snp, tdx, sgx, az-snp-vtpm or az-tdx-vtpm")
}

// readAzure passes the JSON on as it is: package tee/azure reads that form.
func readAzure(b json.RawMessage) (tee.Evidence, error) {
	return tee.Evidence{Data: slices.Clone(b)}, bounded(b)
}

func readTDX(b json.RawMessage) (tee.Evidence, error) {
	var w struct {
		Quote    string  `json:"quote"`
		EventLog *string `json:"cc_eventlog"`
		// A log of the guest's agent beside the firmware's, in flat evidence only.
		// It is text that no verifier here replays: nothing is believed of it.
		AgentLog *string `json:"aa_eventlog"`
	}
	if err := decode(b, &w); err != nil {
		return tee.Evidence{}, refuse("evidence of TDX: want quote and cc_eventlog")
	}
	quote, err := readQuote(w.Quote)
	if err != nil {
		return tee.Evidence{}, err
	}
	ev := tee.Evidence{Data: quote}
	if w.EventLog != nil && *w.EventLog != "" {
		var ok bool
		if ev.EventLog, ok = decodeStandard(*w.EventLog); !ok || len(ev.EventLog) > tee.MaxEventLog {
			return tee.Evidence{}, refuse("cc_eventlog: want base64 of at most %d bytes", tee.MaxEventLog)
		}
	}
	return ev, nil
}

func readSGX(b json.RawMessage) (tee.Evidence, error) {
	var w struct {
		Quote string `json:"quote"`
	}
	if err := decode(b, &w); err != nil {
		return tee.Evidence{}, refuse("evidence of SGX: want quote")
	}
	quote, err := readQuote(w.Quote)
	return tee.Evidence{Data: quote}, err
}

func readQuote(s string) ([]byte, error) {
	quote, ok := decodeStandard(s)
	if !ok || len(quote) == 0 {
		return nil, refuse("quote: want base64")
	}
	return quote, bounded(quote)
}

func bounded(b []byte) error {
	if len(b) > tee.MaxEvidence {
		return refuse("evidence: want at most %d bytes", tee.MaxEvidence)
	}
	return nil
}

// decodeStandard reads padded base64 in its one canonical form.
func decodeStandard(s string) ([]byte, bool) {
	b, err := base64.StdEncoding.DecodeString(s)
	return b, err == nil && base64.StdEncoding.EncodeToString(b) == s
}
