package wasm

import (
	"context"
	"errors"
	"fmt"
)

// CallError is an error that a module returned itself: its code is the module's
// own. The module is not broken by it.
type CallError struct {
	Method uint32
	Code   uint32
}

// Error names the method and the code.
func (e *CallError) Error() string {
	return fmt.Sprintf("call method %d: the module answered with error %d", e.Method, e.Code)
}

// keepBuffer is the largest input whose buffer is kept for the next call.
const keepBuffer = 1 << 20

// Call passes in to a method of the module and returns a copy of its answer. The
// error is a [*CallError] when the module refused. A trap ([*TrapError]) and an
// answer outside the module's memory break the module. ctx reaches the host
// functions but does not stop the module.
func (m *Module) Call(ctx context.Context, method uint32, in []byte) ([]byte, error) {
	if m.busy {
		return nil, ErrBusy
	}
	m.busy = true
	defer func() { m.busy = false }()
	view, ptr, err := m.invoke(ctx, method, in)
	out := make([]byte, len(view)) // the module's memory is its own again after this
	copy(out, view)
	if !m.settled(ptr, len(view)) {
		if e := m.settle(ctx, ptr, len(view)); e != nil {
			return nil, e
		}
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

// CallInto is [Module.Call] with the answer copied into out: it allocates
// nothing. It returns the length of the answer; when that is more than len(out),
// nothing was copied and the error is [ErrTooLong].
func (m *Module) CallInto(ctx context.Context, method uint32, in, out []byte) (int, error) {
	if m.busy {
		return 0, ErrBusy
	}
	m.busy = true
	view, ptr, err := m.invoke(ctx, method, in)
	n := len(view)
	if n > len(out) {
		err = ErrTooLong
	} else {
		copy(out, view)
	}
	if !m.settled(ptr, n) {
		if e := m.settle(ctx, ptr, n); e != nil {
			n, err = 0, e
		}
	}
	m.busy = false
	return n, err
}

// ErrTooLong means that an answer does not fit the buffer given for it.
var ErrTooLong = errors.New("the module's answer does not fit the buffer")

// invoke copies in to the module, calls the method and returns the answer as it
// lies in the module's memory, at ptr.
func (m *Module) invoke(ctx context.Context, method uint32, in []byte) (view []byte, ptr uint32, err error) {
	if m.broken != nil {
		return nil, 0, m.broken
	}
	if uint64(len(in)) > uint64(m.in.size) {
		if err := m.grow(ctx, len(in)); err != nil {
			return nil, 0, err
		}
	}
	copy(m.memory.b[m.in.ptr:], in) // grow saw that it fits, and a memory does not shrink
	m.stack = [3]uint64{uint64(method), uint64(m.in.ptr), uint64(len(in))}
	if err := m.call.CallWithStack(ctx, m.stack[:]); err != nil {
		return nil, 0, m.breakDown(trap(err))
	}
	ptr, size := uint32(m.stack[0]>>32), uint32(m.stack[0])
	if ptr == 0 {
		if size != 0 {
			return nil, 0, &CallError{Method: method, Code: size}
		}
		return nil, 0, nil
	}
	if !m.memory.holds(ptr, size) {
		return nil, 0, m.breakDown(fmt.Errorf("the answer of method %d, %d bytes at %d, lies outside the module's memory", method, size, ptr))
	}
	return m.memory.b[ptr:][:size], ptr, nil
}

// holds says that a range lies in the input buffer.
func (m *Module) holds(ptr uint32, n int) bool {
	return ptr >= m.in.ptr && uint64(ptr)+uint64(n) <= uint64(m.in.ptr)+uint64(m.in.size)
}

// settled says that a call leaves nothing to give back: the module is broken, or
// its answer is empty or lies in our own buffer, which is small enough to keep.
func (m *Module) settled(ptr uint32, n int) bool {
	return m.broken != nil || m.in.size <= keepBuffer && (n == 0 || m.holds(ptr, n))
}

// settle gives back an answer outside our own buffer, and a buffer that is too
// large to keep.
func (m *Module) settle(ctx context.Context, ptr uint32, n int) error {
	if n > 0 && !m.holds(ptr, n) {
		if err := m.giveBack(ctx, buffer{ptr, uint32(n)}); err != nil {
			return err
		}
	}
	if m.in.size <= keepBuffer {
		return nil
	}
	old := m.in
	m.in = buffer{}
	return m.giveBack(ctx, old)
}

// grow replaces the input buffer by one of at least n bytes.
func (m *Module) grow(ctx context.Context, n int) error {
	if uint64(n) > maxMemoryMiB<<20-1 {
		return fmt.Errorf("input of %d bytes does not fit a module's memory", n)
	}
	if m.in.size > 0 {
		old := m.in
		m.in = buffer{}
		if err := m.giveBack(ctx, old); err != nil {
			return err
		}
	}
	size := uint32(max(n, 64))
	m.stack[0] = uint64(size)
	if err := m.alloc.CallWithStack(ctx, m.stack[:]); err != nil {
		return m.breakDown(trap(err))
	}
	ptr := uint32(m.stack[0])
	if ptr == 0 {
		return fmt.Errorf("the module has no %d bytes of memory for its input", size)
	}
	if !m.memory.holds(ptr, size) {
		return m.breakDown(fmt.Errorf("cl_alloc gave %d bytes at %d, outside the module's memory", size, ptr))
	}
	m.in = buffer{ptr, size}
	return nil
}

func (m *Module) giveBack(ctx context.Context, b buffer) error {
	m.stack[0], m.stack[1] = uint64(b.ptr), uint64(b.size)
	if err := m.free.CallWithStack(ctx, m.stack[:]); err != nil {
		return m.breakDown(trap(err))
	}
	return nil
}

// breakDown makes every later call fail.
func (m *Module) breakDown(err error) error {
	m.broken = fmt.Errorf("%w: %w", ErrBroken, err)
	return err
}
