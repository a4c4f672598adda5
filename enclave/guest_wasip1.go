package enclave

import (
	"encoding/base64"
	"errors"
	"strings"
	"unsafe"

	"github.com/cloister-cc/cloister/enclave/call"
	"github.com/cloister-cc/cloister/enclave/internal/flatjson"
	"github.com/cloister-cc/cloister/tee"
)

// guest talks to the runtime that runs this module, by function calls.
type guest struct{}

// connect finds the runtime's functions: without them the module would not have
// started.
func connect() (agent, error) { return guest{}, nil }

// Do implements agent.
func (guest) Do(r call.Request) (call.Answer, error) {
	name, nameLen := unsafe.Pointer(unsafe.StringData(r.Name)), uint32(len(r.Name))
	switch r.Op {
	case call.Self:
		return self(r)
	case call.Secret:
		b, err := receive(r.Op, 1<<10, func(out unsafe.Pointer, size uint32, n unsafe.Pointer) call.Status {
			return hostSecret(name, nameLen, out, size, n)
		})
		return call.Answer{Data: b}, err
	case call.Evidence:
		return evidence(r)
	case call.CounterRead:
		var value uint64
		digest := make([]byte, 32)
		err := check(r.Op, hostCounterRead(policyNumber(r.To), name, nameLen, unsafe.Pointer(&value), start(digest)))
		return call.Answer{Number: value, Data: digest}, err
	case call.CounterAdvance:
		if len(r.Data) != 32 {
			return call.Answer{}, check(r.Op, call.Argument)
		}
		return call.Answer{}, check(r.Op, hostCounterAdvance(policyNumber(r.To), name, nameLen, r.Number, start(r.Data)))
	}
	return call.Answer{}, &tee.Error{Code: tee.CodeUnavailable, Op: string(r.Op), Err: errors.New("not offered to Wasm modules")}
}

func self(r call.Request) (call.Answer, error) {
	b, err := receive(r.Op, 4<<10, hostSelf)
	if err != nil {
		return call.Answer{}, err
	}
	o, err := flatjson.Parse(b)
	if err != nil {
		return call.Answer{}, malformed(r.Op, err)
	}
	id := &call.Identity{
		TEE: tee.Kind(o.String("tee")), Simulated: o.Bool("simulated"), Debug: o.Bool("debug"),
		InstanceID: o.String("instance_id"), Args: o.List("args"),
	}
	for name, to := range map[string]*[]byte{
		"measurement": &id.Measurement, "launch_digest": &id.LaunchDigest, "runtime_digest": &id.RuntimeDigest, "root": &id.Root,
	} {
		b, ok := unhex(o.String(name))
		if !ok {
			return call.Answer{}, malformed(r.Op, errors.New("the identity's "+name+" is not hex"))
		}
		*to = b
	}
	return call.Answer{Identity: id}, nil
}

// unhex reads lower-case hex. Package encoding/hex would bring fmt with it, which
// is a seventh of a small module.
func unhex(s string) ([]byte, bool) {
	const digits = "0123456789abcdef"
	b := make([]byte, len(s)/2)
	for i := range b {
		high, low := strings.IndexByte(digits, s[2*i]), strings.IndexByte(digits, s[2*i+1])
		if high < 0 || low < 0 {
			return nil, false
		}
		b[i] = byte(high<<4 | low)
	}
	return b, len(s)%2 == 0
}

func evidence(r call.Request) (call.Answer, error) {
	b, err := receive(r.Op, 16<<10, func(out unsafe.Pointer, size uint32, n unsafe.Pointer) call.Status {
		return hostEvidence(start(r.Data), uint32(len(r.Data)), out, size, n)
	})
	if err != nil {
		return call.Answer{}, err
	}
	o, err := flatjson.Parse(b)
	if err != nil {
		return call.Answer{}, malformed(r.Op, err)
	}
	ev := &tee.Evidence{Kind: tee.Kind(o.String("tee"))}
	if ev.Data, err = base64.StdEncoding.DecodeString(o.String("data")); err != nil {
		return call.Answer{}, malformed(r.Op, err)
	}
	for _, c := range o.List("certificates") {
		der, err := base64.StdEncoding.DecodeString(c)
		if err != nil {
			return call.Answer{}, malformed(r.Op, err)
		}
		ev.Certificates = append(ev.Certificates, der)
	}
	return call.Answer{Evidence: ev}, nil
}

// sealOverhead is what a sealed blob is longer than its plaintext, roughly.
const sealOverhead = 256

func (guest) seal(policy tee.SealPolicy, plaintext, aad []byte) ([]byte, error) {
	to := policyNumber(policy.To)
	if to == 0 {
		return nil, &tee.Error{Code: tee.CodeSealPolicy, Op: "seal", Err: errors.New("the policy names neither measurement nor signer")}
	}
	return receive("seal", len(plaintext)+sealOverhead, func(out unsafe.Pointer, size uint32, n unsafe.Pointer) call.Status {
		return hostSeal(to, policy.SVN, start(plaintext), uint32(len(plaintext)), start(aad), uint32(len(aad)), out, size, n)
	})
}

// policyNumber is the number that the ABI has for what a policy seals to, 0 when
// it has none.
func policyNumber(to string) uint32 {
	switch to {
	case tee.SealToMeasurement().To:
		return call.PolicyMeasurement
	case tee.SealToSigner(0).To:
		return call.PolicySigner
	}
	return 0
}

func (guest) unseal(blob, aad []byte) ([]byte, error) {
	return receive("unseal", len(blob)+1, func(out unsafe.Pointer, size uint32, n unsafe.Pointer) call.Status {
		return hostUnseal(start(blob), uint32(len(blob)), start(aad), uint32(len(aad)), out, size, n)
	})
}

// receive calls ask with a buffer of size bytes, again with a larger one when
// the runtime says so, and returns the answer.
func receive(op call.Op, size int, ask func(out unsafe.Pointer, size uint32, n unsafe.Pointer) call.Status) ([]byte, error) {
	for range 4 {
		b := make([]byte, size)
		var n uint32
		switch status := ask(start(b), uint32(size), unsafe.Pointer(&n)); {
		case status == call.TooSmall && int(n) > size:
			size = int(n)
		case status == call.OK && int(n) <= size:
			return b[:n], nil
		default:
			return nil, check(op, status)
		}
	}
	return nil, check(op, call.Argument)
}

// check turns a status into an error.
func check(op call.Op, status call.Status) error {
	if status == call.OK {
		return nil
	}
	if status != call.Failed {
		return &tee.Error{Code: tee.CodeParse, Op: string(op), Err: errors.New("the runtime refused an argument: too long, or of the wrong size")}
	}
	b, n := make([]byte, 4<<10), uint32(0)
	if hostError(start(b), uint32(len(b)), unsafe.Pointer(&n)) != call.OK || int(n) > len(b) {
		return malformed(op, errors.New("the runtime gives no reason"))
	}
	o, err := flatjson.Parse(b[:n])
	if err != nil {
		return malformed(op, err)
	}
	return &tee.Error{Code: tee.Code(o.String("code")), Op: string(op), Hint: o.String("hint"), Err: errors.New(o.String("message"))}
}

func malformed(op call.Op, err error) error {
	return &tee.Error{Code: tee.CodeUnavailable, Op: string(op), Err: err}
}

// start is where b's bytes lie, nil when it has none.
func start(b []byte) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b)) }
