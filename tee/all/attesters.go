package all

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/azure"
	"github.com/cloister-cc/cloister/tee/nitro"
	"github.com/cloister-cc/cloister/tee/sgx"
	"github.com/cloister-cc/cloister/tee/snp"
	"github.com/cloister-cc/cloister/tee/tdx"
	"github.com/cloister-cc/cloister/tee/tpm"
)

// Attesters returns an attester for each way to a TEE that this program could run
// inside, the ones that measure code most closely first, and of one TEE the ways
// that are better kept first: Linux has one interface for all, configfs-tsm, and
// devices where that is not there. None of them is known to work before it was
// asked.
func Attesters() []tee.Attester {
	return []tee.Attester{
		&sgx.Attester{}, tdx.Attester{}, snp.Attester{},
		opened{tee.TDX, func() (device, error) { return tdx.OpenDevice() }},
		opened{tee.SNP, func() (device, error) { return snp.OpenDevice() }},
		opened{tee.Nitro, func() (device, error) { return nitro.Open() }},
		opened{tee.AzureTDX, func() (device, error) { return azure.OpenTDX(azure.Options{}) }},
		opened{tee.AzureSNP, func() (device, error) { return azure.OpenSNP(azure.Options{}) }},
		// Last: a TPM is in many machines, and says nothing of memory.
		opened{tee.TPM, func() (device, error) { return tpm.Open(tpm.Options{}) }},
	}
}

// device is an attester on a device that has to be closed.
type device interface {
	tee.Attester
	io.Closer
}

// opened opens its device for each evidence, so that a list of attesters holds
// none that nobody asks.
type opened struct {
	kind tee.Kind
	open func() (device, error)
}

// Kind implements [tee.Attester].
func (o opened) Kind() tee.Kind { return o.kind }

// Evidence implements [tee.Attester].
func (o opened) Evidence(ctx context.Context, reportData [64]byte) (tee.Evidence, error) {
	d, err := o.open()
	if err != nil {
		return tee.Evidence{}, err
	}
	ev, err := d.Evidence(ctx, reportData)
	if closed := d.Close(); err == nil && closed != nil {
		return tee.Evidence{}, closed
	}
	return ev, err
}

// Evidence asks each of the attesters in turn and returns the first evidence that
// one gives: a TEE is there when it proves it, not when a device file is. If
// none does, the error is a *tee.Error with CodeUnavailable that says what each
// of them said.
func Evidence(ctx context.Context, attesters []tee.Attester, reportData [64]byte) (tee.Evidence, error) {
	var tried []string
	for _, a := range attesters {
		ev, err := a.Evidence(ctx, reportData)
		if err == nil {
			return ev, nil
		}
		tried = append(tried, fmt.Sprintf("%s: %v", a.Kind(), err))
	}
	return tee.Evidence{}, &tee.Error{Code: tee.CodeUnavailable, Op: "get evidence of this machine", Err: errors.New(strings.Join(tried, "; ")),
		Hint: "this program does not run inside a TEE that it knows; evidence of an instance of this host: cloister attest evidence NAME"}
}
