package qemu

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/cloister-cc/cloister/tee/eventlog"
	"github.com/cloister-cc/cloister/tee/software"
	"github.com/cloister-cc/cloister/tee/tpm"
)

// makeTime bounds how long it takes to make a TPM.
const makeTime = 30 * time.Second

// madeFile is there once a TPM has everything that its maker gives it.
const madeFile = "made"

// makeTPM makes the emulated TPM of an instance in a directory, unless it is there: the
// platform of the software TEE certifies its endorsement key, which says that it is
// emulated.
func makeTPM(ctx context.Context, swtpm, dir string, maker *software.Client) error {
	made := filepath.Join(dir, madeFile)
	if _, err := os.Stat(made); err == nil {
		return nil
	}
	if err := os.RemoveAll(dir); err != nil { // half made: it has no secrets yet
		return fmt.Errorf("make TPM: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make TPM: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, makeTime)
	defer cancel()
	if err := equip(ctx, swtpm, dir, maker); err != nil {
		return fmt.Errorf("make TPM: %w", err)
	}
	return os.WriteFile(made, nil, 0o600)
}

// equip starts a TPM for a moment and gives it the certificate of its maker.
func equip(ctx context.Context, swtpm, dir string, maker *software.Client) error {
	ours, theirs, err := socketpair("TPM")
	if err != nil {
		return err
	}
	p, err := startProcess(dir, nil, []*os.File{theirs}, swtpm, "socket", "--tpm2", "--tpmstate", "dir="+dir,
		"--fd", fmt.Sprint(firstFile), "--flags", "not-need-init,startup-clear")
	_ = theirs.Close()
	if err != nil {
		_ = ours.Close()
		return err
	}
	defer p.kill()
	conn, err := net.FileConn(ours)
	_ = ours.Close()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	a, err := tpm.NewAttester(conn, tpm.Options{})
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	err = errors.Join(certify(ctx, a, maker), a.AllocateBanks(ctx, eventlog.SHA256))
	if err = errors.Join(err, a.Close()); err != nil {
		return err
	}
	_ = p.wait(ctx) // it ends with its connection, its memory is on the disk
	return nil
}

func certify(ctx context.Context, a *tpm.Attester, maker *software.Client) error {
	ek, err := a.EK(ctx)
	if err != nil {
		return err
	}
	key, err := x509.MarshalPKIXPublicKey(ek.Key)
	if err != nil {
		return err
	}
	certificate, err := maker.CertifyTPM(ctx, key)
	if err != nil {
		return err
	}
	return a.WriteNV(ctx, tpm.EKCertificateIndex, certificate)
}

// startTPM starts the TPM of an instance for a machine, which speaks to it by the
// returned socket.
func startTPM(swtpm, dir string, output, lock *os.File) (*process, *os.File, error) {
	ours, theirs, err := socketpair("TPM")
	if err != nil {
		return nil, nil, err
	}
	p, err := startProcess(dir, output, []*os.File{theirs, lock}, swtpm, "socket", "--tpm2", "--tpmstate", "dir="+dir,
		"--ctrl", fmt.Sprintf("type=unixio,clientfd=%d", firstFile), "--terminate")
	_ = theirs.Close()
	if err != nil {
		_ = ours.Close()
		return nil, nil, err
	}
	return p, ours, nil
}
