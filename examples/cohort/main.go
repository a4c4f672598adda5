// Command cohort lets two hospitals learn from patients they share without
// showing each other, or anybody else, a single record.
//
// Hospital A has measurements of each patient, hospital B other measurements
// and the diagnosis. Each encrypts its table under a key of its own and allows
// that key to be released to exactly this program. Inside the TEE the program
// joins the tables by patient, computes statistics and a diagnostic model that
// neither could compute alone, and returns them encrypted under each
// hospital's key. Nothing else leaves: it prints no data.
//
//	inputs:  a, b          AES-256-GCM (nonce, then ciphertext) of CSV, additional data "cohort input v1 a"/"… b"
//	secrets: key-a, key-b  32 bytes each
//	outputs: result-a, result-b  the same JSON for each, additional data "cohort result v1"
package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/cloister-cc/cloister/enclave"
)

const (
	inputPurpose  = "cohort input v1 " // and the hospital's letter
	resultPurpose = "cohort result v1"
	nonceSize     = 12
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "cohort:", err)
		os.Exit(1)
	}
}

func run() error {
	e, err := enclave.Open()
	if err != nil {
		return err
	}
	keyA, a, err := open(e, "a")
	if err != nil {
		return err
	}
	keyB, b, err := open(e, "b")
	if err != nil {
		return err
	}
	result, err := study(a, b)
	if err != nil {
		return err
	}
	out, err := json.Marshal(result)
	if err != nil {
		return err
	}
	return errors.Join(deliver(e, "result-a", keyA, out), deliver(e, "result-b", keyB, out))
}

// open takes a hospital's key and table.
func open(e *enclave.Enclave, hospital string) (key []byte, t table, err error) {
	if key, err = e.Secret("key-" + hospital); err != nil {
		return nil, t, err
	}
	sealed, err := e.Input(hospital)
	if err != nil {
		return nil, t, err
	}
	if len(sealed) < nonceSize {
		return nil, t, fmt.Errorf("input %s: too short", hospital)
	}
	csv, err := enclave.DecryptAESGCM(key, sealed[:nonceSize], sealed[nonceSize:], []byte(inputPurpose+hospital))
	if err != nil {
		return nil, t, fmt.Errorf("input %s: %w", hospital, err)
	}
	if t, err = parseTable(string(csv)); err != nil {
		return nil, t, fmt.Errorf("input %s: %w", hospital, err)
	}
	return key, t, nil
}

// deliver encrypts the result for one hospital.
func deliver(e *enclave.Enclave, name string, key, result []byte) error {
	nonce := make([]byte, nonceSize)
	if _, err := rand.Read(nonce); err != nil {
		return err
	}
	sealed, err := enclave.EncryptAESGCM(key, nonce, result, []byte(resultPurpose))
	if err != nil {
		return err
	}
	return e.Output(name, append(nonce, sealed...))
}
