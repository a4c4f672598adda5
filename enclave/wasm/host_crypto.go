package wasm

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/cloister-cc/cloister/enclave/call"
	"github.com/cloister-cc/cloister/tee"
)

// maxRandom is the most randomness that one call gives, in bytes.
const maxRandom = 1 << 20

func (h *host) random(_ context.Context, c *guestCall) call.Status {
	ptr, n := c.word(), c.word()
	if _, ok := c.view(ptr, n); !ok || n > maxRandom {
		return call.Argument
	}
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		return h.fail(c, fmt.Errorf("read randomness: %w", err))
	}
	if !c.memory.Write(ptr, b) {
		return call.Argument
	}
	return call.OK
}

// maxLogLine is where a module's log line is cut, in bytes.
const maxLogLine = 4 << 10

// levels are the names of the log levels.
var levels = [...]string{"debug", "info", "warning", "error"}

// log writes one line: what the module says is quoted, so that it can neither
// end the line nor pass for a line of the runtime.
func (h *host) log(_ context.Context, c *guestCall) call.Status {
	level := c.word()
	ptr, n := c.word(), c.word()
	if _, ok := c.view(ptr, n); !ok || level >= uint32(len(levels)) {
		return call.Argument
	}
	text, _ := c.copied(ptr, min(n, maxLogLine))
	if _, err := fmt.Fprintf(h.stderr, "%s: %s\n", levels[level], printable(text)); err != nil {
		return h.fail(c, fmt.Errorf("write log: %w", err))
	}
	return call.OK
}

// printable is text with everything but printable characters escaped.
func printable(text []byte) string {
	q := strconv.Quote(string(text))
	return q[1 : len(q)-1]
}

func (h *host) hash(_ context.Context, c *guestCall) call.Status {
	alg := c.word()
	ptr, n := c.word(), c.word()
	data, okData := c.view(ptr, n) // read before anything is written
	out, ok := c.output()
	if !ok || !okData {
		return call.Argument
	}
	switch alg {
	case call.SHA256:
		d := sha256.Sum256(data)
		return out.write(d[:])
	case call.SHA384:
		d := sha512.Sum384(data)
		return out.write(d[:])
	case call.SHA512:
		d := sha512.Sum512(data)
		return out.write(d[:])
	}
	return call.Argument
}

const (
	aeadKey   = 32
	aeadNonce = 12
	aeadTag   = 16
	// maxAEAD is the most that AES-GCM may encrypt under one nonce.
	maxAEAD = math.MaxUint32 - aeadTag
)

func (h *host) aeadSeal(_ context.Context, c *guestCall) call.Status {
	return h.aead(c, func(g cipher.AEAD, nonce, aad, data []byte) ([]byte, error) {
		return g.Seal(nil, nonce, data, aad), nil
	})
}

func (h *host) aeadOpen(_ context.Context, c *guestCall) call.Status {
	return h.aead(c, func(g cipher.AEAD, nonce, aad, data []byte) ([]byte, error) {
		b, err := g.Open(nil, nonce, data, aad)
		if err != nil {
			return nil, &tee.Error{
				Code: tee.CodeSealed, Op: "decrypt",
				Err: errors.New("the bytes were altered, or encrypted under another key, nonce or additional data"),
			}
		}
		return b, nil
	})
}

func (h *host) aead(c *guestCall, do func(g cipher.AEAD, nonce, aad, data []byte) ([]byte, error)) call.Status {
	key, okKey := c.fixed(aeadKey)
	nonce, okNonce := c.fixed(aeadNonce)
	aad, okAAD := c.bytes(math.MaxUint32)
	data, okData := c.bytes(maxAEAD)
	out, ok := c.output()
	if !ok || !okKey || !okNonce || !okAAD || !okData {
		return call.Argument
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return h.fail(c, err)
	}
	g, err := cipher.NewGCM(block)
	if err != nil {
		return h.fail(c, err)
	}
	b, err := do(g, nonce, aad, data)
	if err != nil {
		return h.fail(c, err)
	}
	return out.write(b)
}
