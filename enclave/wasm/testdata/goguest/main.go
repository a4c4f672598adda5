// Command goguest uses everything that package enclave offers to a Wasm module
// and says what it got. goguest_test.go builds and runs it.
package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"

	"github.com/cloister-cc/cloister/enclave"
	"github.com/cloister-cc/cloister/tee"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	ctx := context.Background()
	e, err := enclave.Open()
	if err != nil {
		return err
	}
	self := e.Self()
	fmt.Println("self", self.TEE, self.Simulated, self.Debug, hex.EncodeToString(self.Measurement), len(self.LaunchDigest), len(self.RuntimeDigest), self.InstanceID, self.Args)

	secret, err := e.Secret("key")
	fmt.Printf("secret %d bytes %v\n", len(secret), err)
	_, err = e.Secret("other")
	fmt.Println("other", code(err))

	evidence, err := e.Evidence(ctx, []byte("nonce"))
	fmt.Println("evidence", evidence.Kind, hex.EncodeToString(evidence.Data), len(evidence.Certificates), err)
	_, err = e.Evidence(ctx, make([]byte, 65<<10))
	fmt.Println("long", code(err))

	large := bytes.Repeat([]byte("state"), 10_000)
	for _, policy := range []tee.SealPolicy{tee.SealToMeasurement(), tee.SealToSigner(1)} {
		blob, err := e.Seal(policy, large, []byte("aad"))
		if err != nil {
			return err
		}
		plain, err := e.Unseal(blob, []byte("aad"))
		_, refusal := e.Unseal(blob, nil)
		fmt.Println("seal", bytes.Equal(plain, large), err, code(refusal))
	}
	_, err = e.Seal(tee.SealToSigner(9), nil, nil)
	fmt.Println("future", code(err))
	_, err = e.Seal(tee.SealPolicy{}, nil, nil)
	fmt.Println("nobody", code(err))
	blob, err := e.Seal(tee.SealToMeasurement(), nil, nil)
	if err != nil {
		return err
	}
	plain, err := e.Unseal(blob, nil)
	fmt.Println("empty", len(plain), err)

	value, digest, err := e.ReadCounter(ctx, "c")
	fmt.Println("counter", value, digest == [32]byte{}, err)
	fmt.Println("advance", e.AdvanceCounter(ctx, "c", 0, [32]byte{7}))
	value, digest, err = e.ReadCounter(ctx, "c")
	fmt.Println("counter", value, digest == [32]byte{7}, err)
	_, _, err = e.SignerCounters().ReadCounter(ctx, "c")
	fmt.Println("signer", err)
	fmt.Println("stale", code(e.AdvanceCounter(ctx, "c", 0, [32]byte{8})))

	key, nonce := make([]byte, 32), make([]byte, 12)
	sealed, err := enclave.EncryptAESGCM(key, nonce, []byte("text"), nil)
	fmt.Println("aes", hex.EncodeToString(sealed), err)
	text, err := enclave.DecryptAESGCM(key, nonce, sealed, nil)
	_, refusal := enclave.DecryptAESGCM(key, nonce, sealed, []byte("x"))
	_, short := enclave.DecryptAESGCM(key[:16], nonce, sealed, nil)
	fmt.Println("aes", string(text), err, code(refusal), code(short))

	in, err := e.Input("data")
	fmt.Println("input", string(in), err)
	fmt.Println("output", e.Output("result", []byte("out")), e.StateDir())
	return nil
}

// code is that of a *tee.Error.
func code(err error) tee.Code {
	if e, ok := errors.AsType[*tee.Error](err); ok {
		return e.Code
	}
	return "none"
}
