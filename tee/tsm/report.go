package tsm

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cloister-cc/cloister/tee"
)

// Dir is where configfs shows reports.
const Dir = "/sys/kernel/config/tsm/report"

// The providers that the kernel names.
const (
	SEVGuest = "sev_guest"
	TDXGuest = "tdx_guest"
)

// maxBlob bounds what is read of one attribute.
const maxBlob = 64 << 10

// Report is one answer.
type Report struct {
	Provider  string
	Evidence  []byte // outblob: the report or quote
	Auxiliary []byte // auxblob: certificates, where the provider has any
}

// Client asks for reports. The zero value asks the running kernel. It is safe
// for concurrent use.
type Client struct {
	// Files is what the kernel shows; nil is [Dir]. Tests put a fake in its place.
	Files Files
}

// Files is what a client needs of configfs. Names are relative, with slashes.
type Files interface {
	Mkdir(name string) error
	Write(name string, b []byte) error
	Read(name string, limit int) ([]byte, error)
	Remove(name string) error
}

// Provider returns which TEE this guest runs in, by the kernel's name for it. An
// error is a *tee.Error with CodeUnavailable: this is no guest of a TEE that
// the kernel can ask.
func (c Client) Provider() (string, error) {
	name, err := c.entry()
	if err != nil {
		return "", err
	}
	defer func() { _ = c.files().Remove(name) }()
	b, err := c.files().Read(name+"/provider", 256)
	if err != nil {
		return "", unavailable("ask which TEE this is", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// Report asks for a report over reportData. The error is a *tee.Error with
// CodeUnavailable.
func (c Client) Report(ctx context.Context, reportData [64]byte) (Report, error) {
	const op = "ask the kernel for evidence"
	if err := ctx.Err(); err != nil {
		return Report{}, unavailable(op, err)
	}
	name, err := c.entry()
	if err != nil {
		return Report{}, err
	}
	defer func() { _ = c.files().Remove(name) }()
	f := c.files()
	if err := f.Write(name+"/inblob", reportData[:]); err != nil {
		return Report{}, unavailable(op, err)
	}
	var r Report
	if r.Evidence, err = f.Read(name+"/outblob", maxBlob); err != nil {
		return Report{}, unavailable(op, err)
	}
	r.Auxiliary, err = f.Read(name+"/auxblob", maxBlob)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Report{}, unavailable(op, err)
	}
	provider, err := f.Read(name+"/provider", 256)
	if err != nil {
		return Report{}, unavailable(op, err)
	}
	r.Provider = strings.TrimSpace(string(provider))
	// One write was ours; more means that somebody else wrote to this entry.
	generation, err := f.Read(name+"/generation", 64)
	if err != nil {
		return Report{}, unavailable(op, err)
	}
	if g := strings.TrimSpace(string(generation)); g != "1" {
		return Report{}, unavailable(op, fmt.Errorf("generation %.20q, want 1: somebody else uses this entry", g))
	}
	if len(r.Evidence) == 0 {
		return Report{}, unavailable(op, errors.New("the report is empty"))
	}
	return r, nil
}

// entry makes a report entry with a name of its own.
func (c Client) entry() (string, error) {
	b := make([]byte, 8)
	if _, err := rand.Read(b); err != nil {
		return "", err
	}
	name := "cloister-" + hex.EncodeToString(b)
	if err := c.files().Mkdir(name); err != nil {
		return "", &tee.Error{Code: tee.CodeUnavailable, Op: "open configfs-tsm", Err: err,
			Hint: "inside a guest of SEV-SNP or TDX: modprobe sev-guest or tdx-guest, and mount configfs; elsewhere there is none"}
	}
	return name, nil
}

func (c Client) files() Files {
	if c.Files == nil {
		return kernel(Dir)
	}
	return c.Files
}

func unavailable(op string, err error) error {
	return &tee.Error{Code: tee.CodeUnavailable, Op: op, Err: err}
}

// kernel is the directory in which configfs shows reports.
type kernel string

func (k kernel) path(name string) string { return filepath.Join(string(k), filepath.FromSlash(name)) }

// Mkdir implements [Files]. The kernel fills the new directory.
func (k kernel) Mkdir(name string) error { return os.Mkdir(k.path(name), 0o700) }

// Write implements [Files]. An attribute takes the whole value in one write.
func (k kernel) Write(name string, b []byte) error {
	f, err := os.OpenFile(k.path(name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

// Read implements [Files].
func (k kernel) Read(name string, limit int) ([]byte, error) {
	f, err := os.Open(k.path(name))
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err == nil && len(b) > limit {
		err = fmt.Errorf("%s: more than %d bytes", name, limit)
	}
	return b, errors.Join(err, f.Close())
}

// Remove implements [Files]. An entry is a directory that only the kernel can
// empty, so rmdir.
func (k kernel) Remove(name string) error { return os.Remove(k.path(name)) }
