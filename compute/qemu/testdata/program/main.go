// Command program is what the tests run in machines: it says that it has its secret, and
// then does nothing until it is ended.
package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"time"

	"github.com/cloister-cc/cloister/enclave"
)

func main() {
	e, err := enclave.Open()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	secret, err := e.Secret("s")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("secret %x, simulated %t\n", sha256.Sum256(secret), e.Self().Simulated)
	for {
		time.Sleep(time.Hour)
	}
}
