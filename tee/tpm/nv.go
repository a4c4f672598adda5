package tpm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cloister-cc/cloister/tee/eventlog"
)

// nvAttributes are TPMA_NV (part 2, section "TPMA_NV").
type nvAttributes uint32

// The attributes that matter here.
const (
	nvOwnerWrite nvAttributes = 1 << 1
	nvAuthWrite  nvAttributes = 1 << 2
	nvOwnerRead  nvAttributes = 1 << 17
	nvAuthRead   nvAttributes = 1 << 18
	nvNoDA       nvAttributes = 1 << 25 // not locked by wrong guesses
)

// newNV are the attributes of an index that [Attester.WriteNV] defines: those that
// common tools give one that is said nothing else about, and noDA.
const newNV = nvOwnerWrite | nvAuthWrite | nvOwnerRead | nvAuthRead | nvNoDA

// nvChunk is how many bytes of an index go into one command. A TPM has a limit of
// its own (TPM_PT_NV_BUFFER_MAX), which is 1024 or more where it was looked at.
const nvChunk = 512

// nvPublic is what a TPM says of an index.
type nvPublic struct {
	index      uint32
	attributes nvAttributes
	size       int // bytes
}

// ReadNV returns the contents of an NV index, with the empty password of the
// owner, or of the index itself where the owner may not read it. The error is a
// *tee.Error with CodeUnavailable: there is no such index, it was never written,
// it has more than limit bytes, or it needs another authorisation.
func (a *Attester) ReadNV(ctx context.Context, index uint32, limit int) ([]byte, error) {
	op := fmt.Sprintf("read NV index %#x", index)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, failed(op, err)
	}
	p, err := a.device.readNVPublic(index)
	if err != nil {
		return nil, failed(op, err)
	}
	if p.size > limit {
		return nil, failed(op, fmt.Errorf("%d bytes, at most %d", p.size, limit))
	}
	var data []byte
	for len(data) < p.size {
		b, err := a.device.readNV(p, len(data), min(nvChunk, p.size-len(data)))
		if err != nil {
			return nil, failed(op, err)
		}
		data = append(data, b...)
	}
	return data, nil
}

// WriteNV writes data to an NV index from its beginning. An index that is not there
// is defined in the owner's hierarchy with the size of data; nothing secret belongs
// in it. The authorisation is as in [Attester.ReadNV]. The error is a *tee.Error
// with CodeUnavailable.
func (a *Attester) WriteNV(ctx context.Context, index uint32, data []byte) error {
	op := fmt.Sprintf("write NV index %#x", index)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return failed(op, err)
	}
	p, err := a.device.readNVPublic(index)
	if NoIndex(err) {
		p = &nvPublic{index: index, attributes: newNV, size: len(data)}
		err = a.device.defineNV(p)
	}
	if err != nil {
		return failed(op, err)
	}
	if len(data) > p.size {
		return failed(op, fmt.Errorf("%d bytes do not fit into %d", len(data), p.size))
	}
	for at := 0; at < len(data); at += nvChunk {
		if err := a.device.writeNV(p, at, data[at:min(len(data), at+nvChunk)]); err != nil {
			return failed(op, err)
		}
	}
	return nil
}

// NoIndex reports whether an error of [Attester.ReadNV] means that there is no such
// index.
func NoIndex(err error) bool {
	e, ok := errors.AsType[*ResponseError](err)
	return ok && e.Command == ccNVReadPublic && e.Code == rcNoIndex
}

func (d *device) readNVPublic(index uint32) (*nvPublic, error) {
	r, err := d.run(&command{code: ccNVReadPublic, handles: []uint32{index}})
	if err != nil {
		return nil, err
	}
	area := r.sized(maxCommand)
	if r.err != nil {
		return nil, r.err
	}
	p, err := parseNVPublic(area)
	if err == nil && p.index != index {
		err = fmt.Errorf("the TPM speaks of index %#x", p.index)
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// parseNVPublic reads a TPMS_NV_PUBLIC (part 2, section "TPMS_NV_PUBLIC").
func parseNVPublic(b []byte) (*nvPublic, error) {
	r := &reader{b: b}
	p := &nvPublic{index: r.u32()}
	r.u16() // algorithm of its name
	p.attributes = nvAttributes(r.u32())
	r.sized(64) // policy
	p.size = int(r.u16())
	if err := r.end(); err != nil {
		return nil, err
	}
	return p, nil
}

// authorises is the handle whose empty password allows access to an index.
func (p *nvPublic) authorises(owner nvAttributes) uint32 {
	if p.attributes&owner != 0 {
		return handleOwner
	}
	return p.index
}

func (d *device) readNV(p *nvPublic, offset, size int) ([]byte, error) {
	be := binary.BigEndian
	r, err := d.run(&command{
		code: ccNVRead, handles: []uint32{p.authorises(nvOwnerRead), p.index}, sessions: []session{{}},
		params: be.AppendUint16(be.AppendUint16(nil, uint16(size)), uint16(offset)),
	})
	if err != nil {
		return nil, err
	}
	b := r.params().sized(nvChunk)
	if r.err == nil && len(b) != size {
		return nil, fmt.Errorf("%d bytes instead of %d", len(b), size)
	}
	return b, r.err
}

func (d *device) writeNV(p *nvPublic, offset int, data []byte) error {
	_, err := d.run(&command{
		code: ccNVWrite, handles: []uint32{p.authorises(nvOwnerWrite), p.index}, sessions: []session{{}},
		params: binary.BigEndian.AppendUint16(sized(nil, data), uint16(offset)),
	})
	return err
}

// defineNV makes an index without a password and a policy.
func (d *device) defineNV(p *nvPublic) error {
	be := binary.BigEndian
	area := be.AppendUint16(be.AppendUint32(nil, p.index), uint16(eventlog.SHA256))
	area = be.AppendUint32(area, uint32(p.attributes))
	area = be.AppendUint16(append(area, 0, 0), uint16(p.size)) // no policy
	_, err := d.run(&command{code: ccNVDefineSpace, handles: []uint32{handleOwner}, sessions: []session{{}}, params: sized([]byte{0, 0}, area)})
	return err
}
