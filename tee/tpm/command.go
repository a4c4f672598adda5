package tpm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cloister-cc/cloister/tee"
)

// Command codes (part 2, section "TPM_CC").
const (
	ccNVDefineSpace      = 0x12A
	ccPCRAllocate        = 0x12B
	ccCreatePrimary      = 0x131
	ccNVWrite            = 0x137
	ccActivateCredential = 0x147
	ccNVRead             = 0x14E
	ccPolicySecret       = 0x151
	ccHMAC               = 0x155
	ccQuote              = 0x158
	ccFlushContext       = 0x165
	ccNVReadPublic       = 0x169
	ccReadPublic         = 0x173
	ccStartAuthSession   = 0x176
	ccPCRRead            = 0x17E
	ccPolicyPCR          = 0x17F
	ccPCRExtend          = 0x182
)

// Handles and tags (part 2, sections "Handles" and "TPM_ST").
const (
	handleOwner       = 0x40000001
	handleEndorsement = 0x4000000B
	handlePlatform    = 0x4000000C
	handleNull        = 0x40000007
	handlePassword    = 0x40000009
	tagNoSessions     = 0x8001
	tagSessions       = 0x8002
	firstPersistent   = 0x81000000
	lastPersistent    = 0x81FFFFFF
)

// ResponseError is the cause when a TPM refused a command.
type ResponseError struct {
	Command uint32 // TPM_CC
	Code    uint32 // TPM_RC
}

// Error names both by number, as part 2 lists them.
func (e *ResponseError) Error() string {
	return fmt.Sprintf("TPM command %#x gave response code %#x", e.Command, e.Code)
}

// session authorises the use of one handle: a policy session, or the empty
// password of a handle that has none (the zero value).
type session struct{ handle uint32 }

// device is a TPM that takes one command at a time.
type device struct{ rw io.ReadWriter }

// command is one command in the making.
type command struct {
	code     uint32
	handles  []uint32
	sessions []session
	params   []byte
}

// encode writes a command (part 1, section "Command Structure"): header, handles,
// sessions with their length, parameters.
func (c *command) encode() []byte {
	be := binary.BigEndian
	tag := uint16(tagNoSessions)
	if len(c.sessions) > 0 {
		tag = tagSessions
	}
	b := be.AppendUint32(be.AppendUint32(be.AppendUint16(nil, tag), 0), c.code)
	for _, h := range c.handles {
		b = be.AppendUint32(b, h)
	}
	var auth []byte
	for _, s := range c.sessions {
		handle := s.handle
		if handle == 0 {
			handle = handlePassword
		}
		auth = be.AppendUint32(auth, handle)
		auth = append(auth, 0, 0, 0, 0, 0) // no nonce, the session ends, no HMAC
	}
	if len(auth) > 0 {
		b = append(be.AppendUint32(b, uint32(len(auth))), auth...)
	}
	b = append(b, c.params...)
	be.PutUint32(b[2:], uint32(len(b)))
	return b
}

// Response codes that mean "again" (part 2, section "TPM_RC"): the TPM tests
// itself, or had to stop for something else.
const (
	rcYielded = 0x908
	rcTesting = 0x90A
	rcRetry   = 0x922
)

// rcNoIndex is TPM_RC_HANDLE about the first handle: no such NV index.
const rcNoIndex = 0x18B

// run has the TPM do a command and returns the response after its header: handles,
// when the command has some, then parameters.
func (d *device) run(c *command) (*reader, error) {
	for tries := 1; ; tries++ {
		r, err := d.try(c)
		if e, ok := errors.AsType[*ResponseError](err); !ok || tries == 100 || e.Code != rcYielded && e.Code != rcTesting && e.Code != rcRetry {
			return r, err
		}
		time.Sleep(10 * time.Millisecond) //nolint:forbidigo // a TPM does not say when it is ready, and asking is all one can do
	}
}

// try sends a command once.
func (d *device) try(c *command) (*reader, error) {
	b := c.encode()
	if len(b) > maxCommand {
		return nil, fmt.Errorf("command of %d bytes", len(b))
	}
	if _, err := d.rw.Write(b); err != nil {
		return nil, err
	}
	response, err := d.read()
	if err != nil {
		return nil, err
	}
	r := &reader{b: response}
	tag, _, code := r.u16(), r.u32(), r.u32()
	switch {
	case r.err != nil:
		return nil, r.err
	case code != 0:
		return nil, &ResponseError{Command: c.code, Code: code}
	case tag != tagNoSessions && tag != tagSessions:
		return nil, fmt.Errorf("response with tag %#x", tag)
	}
	return r, nil
}

// read reads one response. The kernel's device gives all of it at once, and loses
// what does not fit; a socket may give it in pieces.
func (d *device) read() ([]byte, error) {
	buffer := make([]byte, maxCommand)
	n := 0
	for {
		m, err := d.rw.Read(buffer[n:])
		n += m
		if n >= 10 {
			size := int(binary.BigEndian.Uint32(buffer[2:]))
			if size < 10 || size > len(buffer) || n > size {
				return nil, fmt.Errorf("response of %d bytes says %d", n, size)
			}
			if n == size {
				return buffer[:n], nil
			}
		}
		if err != nil {
			return nil, err
		}
		if m == 0 {
			return nil, errors.New("truncated response")
		}
	}
}

// params skips the size that stands before the parameters of responses to
// commands with sessions.
func (r *reader) params() *reader {
	r.u32()
	return r
}

// failed is the error of a command of the device.
func failed(op string, cause error) error {
	return &tee.Error{Code: tee.CodeUnavailable, Op: op, Err: cause}
}
