package keys_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/attesttest"
	"github.com/cloister-cc/cloister/keys"
	"github.com/cloister-cc/cloister/keys/keystest"
	"github.com/cloister-cc/cloister/tee"
)

// An owner imports a key under a policy; code inside a TEE, and nothing else,
// gets it, wrapped to a key pair that its evidence vouches for.
func Example() {
	ctx := context.Background()
	instance := attesttest.New(tee.Claims{InstanceID: "cohort-1", LaunchDigest: make([]byte, 32)})
	service := keys.New(keys.Config{
		Verifier: attest.NewVerifier(instance),
		Input:    func(tee.Evidence) tee.Input { return tee.Input{Roots: instance.Roots()} },
		Issue:    func(*attest.Verified, [32]byte) (keys.Token, error) { return keys.Token{Text: "token"}, nil },
		Now:      func() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) },
	})
	service.Begin(&keystest.Log{}) // a node has a statelog here

	owner := sha256.Sum256([]byte("the owner's public key"))
	policy, err := json.Marshal(keys.Policy{Appraisal: attest.Development(), LeaseSeconds: 300})
	if err != nil {
		panic(err)
	}
	if _, err := service.Import(ctx, owner[:], "hospital-a/records", []byte("data key"), policy); err != nil {
		panic(err)
	}

	// Inside the instance.
	recipient, private, err := keys.NewRecipient()
	if err != nil {
		panic(err)
	}
	nonce, err := service.Nonce()
	if err != nil {
		panic(err)
	}
	evidence, err := instance.Evidence(ctx, keys.ReleaseBinding(nonce, recipient.PublicKey(), make([]byte, 32), "cohort-1"))
	if err != nil {
		panic(err)
	}
	answer, err := service.Release(ctx, keys.ReleaseRequest{
		Nonce: nonce, Evidence: evidence, PublicKey: recipient.PublicKey(), Keys: []string{"hospital-a/records"},
	})
	if err != nil {
		panic(err)
	}
	key, err := keys.Unwrap(private, nonce, answer.Keys[0])
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s, for %d s, receipt %d\n", key, answer.LeaseSeconds, answer.Receipts[0])

	// The owner sees what happened.
	receipt, err := service.Receipt(owner[:], answer.Receipts[0])
	if err != nil {
		panic(err)
	}
	fmt.Println(receipt.Action, receipt.Key, receipt.InstanceID, receipt.Simulated, receipt.Expires)
	// Output:
	// data key, for 300 s, receipt 2
	// release hospital-a/records cohort-1 true 2026-03-01T12:05:00.000Z
}
