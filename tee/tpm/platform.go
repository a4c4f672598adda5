package tpm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cloister-cc/cloister/tee/eventlog"
)

// TPM_ALG_IDs of keys that authenticate.
const (
	algHMAC      = 0x0005
	algKeyedHash = 0x0008
)

// Extend extends a PCR with the digests of a measured event, by bank. The banks
// that the TPM has and that are not named stay as they are. Who quotes the PCR from
// then on shows it; put the event into what Options.EventLog returns. The error is
// a *tee.Error with CodeUnavailable.
func (a *Attester) Extend(ctx context.Context, pcr uint32, digests map[eventlog.Algorithm][]byte) error {
	op := fmt.Sprintf("extend PCR %d", pcr)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return failed(op, err)
	}
	be := binary.BigEndian
	var list []byte
	n := 0
	for _, algorithm := range eventlog.Algorithms() {
		d, given := digests[algorithm]
		if !given {
			continue
		}
		if len(d) != algorithm.Size() {
			return failed(op, fmt.Errorf("%s digest of %d bytes", algorithm, len(d)))
		}
		list = append(be.AppendUint16(list, uint16(algorithm)), d...)
		n++
	}
	if n == 0 || n != len(digests) || pcr > 23 {
		return failed(op, errors.New("want digests of banks that are known, and a PCR from 0 to 23"))
	}
	_, err := a.device.run(&command{
		code: ccPCRExtend, handles: []uint32{pcr}, sessions: []session{{}}, params: append(be.AppendUint32(nil, uint32(n)), list...),
	})
	if err != nil {
		return failed(op, err)
	}
	return nil
}

// AllocateBanks says which banks of PCRs the TPM has from its next start on, all 24 of
// each. Firmware computes a digest of everything that it measures for each bank, so one
// that nobody wants costs time. It needs the platform's empty password, which firmware
// takes away when it starts: it is for who makes a TPM. The error is a *tee.Error with
// CodeUnavailable.
func (a *Attester) AllocateBanks(ctx context.Context, banks ...eventlog.Algorithm) error {
	const op = "allocate PCR banks"
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return failed(op, err)
	}
	var all []uint32
	for i := range uint32(24) {
		all = append(all, i)
	}
	var selections []Selection
	for _, algorithm := range eventlog.Algorithms() {
		s := Selection{Algorithm: algorithm}
		if slices.Contains(banks, algorithm) {
			s.Indices = all
		}
		selections = append(selections, s)
	}
	r, err := a.device.run(&command{code: ccPCRAllocate, handles: []uint32{handlePlatform}, sessions: []session{{}}, params: appendSelections(nil, selections...)})
	if err != nil {
		return failed(op, err)
	}
	success := r.params().u8()
	if err := r.err; err != nil {
		return failed(op, err)
	}
	if success != 1 {
		return failed(op, errors.New("the TPM has no room for them"))
	}
	return nil
}

// PlatformKey returns 32 secret bytes that this TPM makes again whenever the given
// PCRs of the SHA-256 bank have the values that they have now, and never otherwise:
// what was booted differently, or has extended one of them since, gets an error or
// other bytes. The same label gives the same bytes until the owner's hierarchy is
// cleared. Nothing is stored: it is the HMAC of the label under a primary key whose
// policy (TPM2_PolicyPCR) is part of what it is made from. The host of an emulated
// TPM has them too. The error is a *tee.Error with CodeUnavailable.
func (a *Attester) PlatformKey(ctx context.Context, pcrs []uint32, label string) ([]byte, error) {
	const op = "derive platform key"
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, failed(op, err)
	}
	if len(pcrs) == 0 || len(label) == 0 || len(label) > 64 {
		return nil, failed(op, errors.New("want at least one PCR and a label of at most 64 bytes"))
	}
	selection := Selection{Algorithm: eventlog.SHA256, Indices: slices.Compact(slices.Sorted(slices.Values(pcrs)))}
	values, err := a.device.readPCRs(selection)
	if err != nil {
		return nil, failed(op, err)
	}
	var parts [][]byte
	for _, i := range selection.Indices {
		parts = append(parts, values[i])
	}
	handle, _, err := a.device.createIn(handleOwner, hmacTemplate(policyPCR(eventlog.SHA256.Sum(parts...), selection)))
	if err != nil {
		return nil, failed(op, err)
	}
	key, err := a.device.withPolicy(func(policy uint32) ([]byte, error) {
		if _, err := a.device.run(&command{code: ccPolicyPCR, handles: []uint32{policy}, params: appendSelections([]byte{0, 0}, selection)}); err != nil {
			return nil, err
		}
		return a.device.hmac(handle, policy, []byte(label))
	})
	if err = errors.Join(err, a.device.flush(handle)); err != nil {
		return nil, failed(op, err)
	}
	if len(key) != eventlog.SHA256.Size() {
		return nil, failed(op, fmt.Errorf("%d bytes", len(key)))
	}
	return key, nil
}

// hmacTemplate is the TPMT_PUBLIC to create a key for HMAC with SHA-256 from, which
// only who meets the policy may use.
func hmacTemplate(policy []byte) []byte {
	be := binary.BigEndian
	b := be.AppendUint16(nil, algKeyedHash)
	b = be.AppendUint16(b, uint16(eventlog.SHA256))
	b = be.AppendUint32(b, uint32(FixedTPM|FixedParent|SensitiveDataOrigin|noDA|Sign))
	b = sized(b, policy)
	b = be.AppendUint16(b, algHMAC)
	b = be.AppendUint16(b, uint16(eventlog.SHA256))
	return append(b, 0, 0) // what the TPM makes
}

func (d *device) hmac(key, policy uint32, message []byte) ([]byte, error) {
	r, err := d.run(&command{
		code: ccHMAC, handles: []uint32{key}, sessions: []session{{policy}},
		params: binary.BigEndian.AppendUint16(sized(nil, message), algNull), // the key's own algorithm
	})
	if err != nil {
		return nil, err
	}
	out := r.params().sized(64)
	return slices.Clone(out), r.err
}
