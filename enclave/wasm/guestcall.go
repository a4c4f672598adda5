package wasm

import (
	"bytes"

	"github.com/tetratelabs/wazero/api"

	"github.com/cloister-cc/cloister/enclave/call"
)

// guestCall reads the parameters of one call in order. Everything that it
// returns is a copy: the module's memory may change or move at any time.
type guestCall struct {
	module api.Module
	memory api.Memory
	params []uint64
}

// word is the next 32-bit parameter.
func (c *guestCall) word() uint32 {
	v := api.DecodeU32(c.params[0])
	c.params = c.params[1:]
	return v
}

// long is the next 64-bit parameter.
func (c *guestCall) long() uint64 {
	v := c.params[0]
	c.params = c.params[1:]
	return v
}

// bytes copies the range that the next two parameters name. It is refused when
// it passes the end of the memory or is longer than limit.
func (c *guestCall) bytes(limit uint32) ([]byte, bool) {
	ptr, n := c.word(), c.word()
	if n > limit {
		return nil, false
	}
	return c.copied(ptr, n)
}

// fixed copies n bytes at the next parameter.
func (c *guestCall) fixed(n uint32) ([]byte, bool) { return c.copied(c.word(), n) }

func (c *guestCall) copied(ptr, n uint32) ([]byte, bool) {
	view, ok := c.view(ptr, n)
	return bytes.Clone(view), ok
}

// view is a range of the memory as it is now. It must not outlive the moment.
func (c *guestCall) view(ptr, n uint32) ([]byte, bool) {
	if uint64(ptr)+uint64(n) > uint64(c.memory.Size()) {
		return nil, false
	}
	return c.memory.Read(ptr, n)
}

// output is where the result of a call goes.
type output struct {
	memory           api.Memory
	ptr, size, count uint32
}

// output reads the next three parameters and checks them, before any work is
// done for the call.
func (c *guestCall) output() (output, bool) {
	o := output{memory: c.memory, ptr: c.word(), size: c.word(), count: c.word()}
	_, fits := c.view(o.ptr, o.size)
	_, counts := c.view(o.count, 4)
	return o, fits && counts
}

// write hands the module its result, or tells it how much room that needs.
func (o output) write(b []byte) call.Status {
	if uint64(len(b)) > 1<<32-1 || !o.memory.WriteUint32Le(o.count, uint32(len(b))) {
		return call.Argument
	}
	if uint64(len(b)) > uint64(o.size) {
		return call.TooSmall
	}
	if !o.memory.Write(o.ptr, b) {
		return call.Argument
	}
	return call.OK
}
