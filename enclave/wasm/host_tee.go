package wasm

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"math"

	"github.com/cloister-cc/cloister/enclave"
	"github.com/cloister-cc/cloister/enclave/call"
	"github.com/cloister-cc/cloister/enclave/seal"
	"github.com/cloister-cc/cloister/tee"
)

// outside is the answer of a runtime that has no instance around it.
func (h *host) outside(c *guestCall) (call.Status, bool) {
	if h.enclave == nil {
		return h.fail(c, &tee.Error{Code: tee.CodeUnavailable, Op: "ask the enclave", Err: enclave.ErrOutside}), true
	}
	return call.OK, false
}

// selfJSON is what the function self returns.
type selfJSON struct {
	TEE           tee.Kind `json:"tee"`
	Simulated     bool     `json:"simulated"`
	Debug         bool     `json:"debug"`
	Measurement   string   `json:"measurement"`
	LaunchDigest  string   `json:"launch_digest"`
	InstanceID    string   `json:"instance_id"`
	RuntimeDigest string   `json:"runtime_digest"`
	Root          string   `json:"root,omitempty"`
	Args          []string `json:"args,omitempty"`
}

func (h *host) self(_ context.Context, c *guestCall) call.Status {
	out, ok := c.output()
	if !ok {
		return call.Argument
	}
	if s, outside := h.outside(c); outside {
		return s
	}
	id := h.enclave.Self()
	b, err := json.Marshal(selfJSON{
		TEE: id.TEE, Simulated: id.Simulated, Debug: id.Debug,
		Measurement: hex.EncodeToString(id.Measurement), LaunchDigest: hex.EncodeToString(id.LaunchDigest),
		InstanceID: id.InstanceID, RuntimeDigest: hex.EncodeToString(id.RuntimeDigest),
		Root: hex.EncodeToString(id.Root), Args: id.Args,
	})
	if err != nil {
		return h.fail(c, err)
	}
	return out.write(b)
}

func (h *host) secret(_ context.Context, c *guestCall) call.Status {
	name, okName := c.bytes(call.MaxName)
	out, ok := c.output()
	if !ok || !okName {
		return call.Argument
	}
	if s, outside := h.outside(c); outside {
		return s
	}
	b, err := h.enclave.Secret(string(name))
	if err != nil {
		return h.fail(c, err)
	}
	defer clear(b)
	return out.write(b)
}

func (h *host) evidence(ctx context.Context, c *guestCall) call.Status {
	data, okData := c.bytes(call.MaxUserData)
	out, ok := c.output()
	if !ok || !okData {
		return call.Argument
	}
	if s, outside := h.outside(c); outside {
		return s
	}
	ev, err := h.enclave.Evidence(ctx, data)
	if err != nil {
		return h.fail(c, err)
	}
	b, err := json.Marshal(ev)
	if err != nil {
		return h.fail(c, err)
	}
	return out.write(b)
}

func (h *host) seal(_ context.Context, c *guestCall) call.Status {
	to, svn := c.word(), c.word()
	plain, okPlain := c.bytes(math.MaxUint32)
	aad, okAAD := c.bytes(math.MaxUint32)
	out, ok := c.output()
	policy, okPolicy := sealPolicy(to, svn)
	if !ok || !okPlain || !okAAD || !okPolicy {
		return call.Argument
	}
	if s, outside := h.outside(c); outside {
		return s
	}
	defer clear(plain)
	blob, err := h.enclave.Seal(policy, plain, aad)
	if err != nil {
		return h.fail(c, err)
	}
	return out.write(blob)
}

func sealPolicy(to, svn uint32) (tee.SealPolicy, bool) {
	switch {
	case to == call.PolicyMeasurement && svn == 0:
		return tee.SealToMeasurement(), true
	case to == call.PolicySigner:
		return tee.SealToSigner(svn), true
	}
	return tee.SealPolicy{}, false
}

func (h *host) unseal(_ context.Context, c *guestCall) call.Status {
	blob, okBlob := c.bytes(seal.MaxBlob)
	aad, okAAD := c.bytes(math.MaxUint32)
	out, ok := c.output()
	if !ok || !okBlob || !okAAD {
		return call.Argument
	}
	if s, outside := h.outside(c); outside {
		return s
	}
	plain, err := h.enclave.Unseal(blob, aad)
	if err != nil {
		return h.fail(c, err)
	}
	defer clear(plain)
	return out.write(plain)
}

func (h *host) counterRead(ctx context.Context, c *guestCall) call.Status {
	counters, okCounters := h.counters(c.word())
	name, okName := c.bytes(call.MaxName)
	valuePtr, digestPtr := c.word(), c.word()
	_, okValue := c.view(valuePtr, 8)
	_, okDigest := c.view(digestPtr, 32)
	if !okCounters || !okName || !okValue || !okDigest {
		return call.Argument
	}
	if s, outside := h.outside(c); outside {
		return s
	}
	value, digest, err := counters().ReadCounter(ctx, string(name))
	if err != nil {
		return h.fail(c, err)
	}
	if !c.memory.WriteUint64Le(valuePtr, value) || !c.memory.Write(digestPtr, digest[:]) {
		return call.Argument
	}
	return call.OK
}

func (h *host) counterAdvance(ctx context.Context, c *guestCall) call.Status {
	counters, okCounters := h.counters(c.word())
	name, okName := c.bytes(call.MaxName)
	from := c.long()
	digest, okDigest := c.fixed(32)
	if !okCounters || !okName || !okDigest {
		return call.Argument
	}
	if s, outside := h.outside(c); outside {
		return s
	}
	if err := counters().AdvanceCounter(ctx, string(name), from, [32]byte(digest)); err != nil {
		return h.fail(c, err)
	}
	return call.OK
}

// counters says whose counters a policy names. There is an enclave when they are
// asked for.
func (h *host) counters(policy uint32) (func() tee.Counters, bool) {
	switch policy {
	case call.PolicyMeasurement:
		return func() tee.Counters { return h.enclave }, true
	case call.PolicySigner:
		return func() tee.Counters { return h.enclave.SignerCounters() }, true
	}
	return nil, false
}
