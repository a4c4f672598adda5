// Command hello is the smallest program for an instance: it says where it runs
// and what it was given. It compiles for every TEE, natively and as a Wasm
// module:
//
//	GOOS=wasip1 GOARCH=wasm go build -o hello.wasm ./examples/hello
//	cloister run hello.wasm
//
// It prints to a log that the host reads, so it prints nothing secret.
package main

import (
	"encoding/hex"
	"os"

	"github.com/cloister-cc/cloister/enclave"
)

func main() {
	e, err := enclave.Open()
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	self := e.Self()
	where := string(self.TEE)
	if self.Simulated {
		where += " (simulated)"
	}
	os.Stdout.WriteString("hello from a TEE: " + where + "\n")
	os.Stdout.WriteString("measurement: " + hex.EncodeToString(self.Measurement) + "\n")
	for _, arg := range self.Args {
		os.Stdout.WriteString("argument: " + arg + "\n")
	}
	if greeting := os.Getenv("GREETING"); greeting != "" { // the operator may set it, if the launch document says so
		os.Stdout.WriteString("greeting from the host: " + greeting + "\n")
	}
}
