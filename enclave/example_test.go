package enclave_test

import (
	"errors"
	"fmt"

	"github.com/cloister-cc/cloister/enclave"
	"github.com/cloister-cc/cloister/tee"
)

// A program opens its enclave first. Outside an instance it learns what to do.
func Example() {
	_, err := enclave.Open()
	if errors.Is(err, enclave.ErrOutside) {
		fmt.Println(err)
	}
	// Output: not inside an instance: start this program with `cloister run`
}

// A relying party has sent a nonce and compares the report data of verified
// evidence with the one that it expects.
func ExampleReportData() {
	expected := enclave.ReportData([]byte("my nonce"))
	fmt.Printf("%x…\n", expected[:8])
	// Output: ee44e964d3fff213…
}

// A result leaves the instance encrypted, for whoever holds the key.
func ExampleEncryptAESGCM() {
	key, nonce := make([]byte, 32), make([]byte, 12) // from Secret and crypto/rand
	sealed, err := enclave.EncryptAESGCM(key, nonce, []byte("result"), []byte("purpose"))
	if err != nil {
		fmt.Println(err)
		return
	}
	plain, err := enclave.DecryptAESGCM(key, nonce, sealed, []byte("purpose"))
	fmt.Println(string(plain), err)

	_, err = enclave.DecryptAESGCM(key, nonce, sealed, []byte("another purpose"))
	refusal, _ := errors.AsType[*tee.Error](err)
	fmt.Println(refusal.Code)
	// Output:
	// result <nil>
	// sealed
}
