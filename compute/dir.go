package compute

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
)

// Dir is the directory of one instance on the host. Everything about an
// instance on this machine is in it, under names that never change; removing it
// removes the instance.
type Dir string

// The files of an instance directory.
func (d Dir) intentFile() string { return filepath.Join(string(d), "intent.json") }
func (d Dir) statusFile() string { return filepath.Join(string(d), "status.json") }

// Document holds the canonical launch document.
func (d Dir) Document() string { return filepath.Join(string(d), "launch.cbor") }

// newImage is where an image of that digest is put, so that a new version can lie beside
// the old one.
func (d Dir) newImage(digest []byte) string {
	return filepath.Join(string(d), "image-"+hex.EncodeToString(digest))
}

// Image holds the image of that digest. Older releases had one image, without a digest in
// its name.
func (d Dir) Image(digest []byte) string {
	path, older := d.newImage(digest), filepath.Join(string(d), "image")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(older); err == nil {
			return older
		}
	}
	return path
}

// storeImage stores an image, and refuses one of another digest.
func (d Dir) storeImage(r io.Reader, digest []byte) error {
	return StoreFile(d.newImage(digest), &digested{r: r, h: sha256.New(), want: digest}, launch.MaxImage)
}

// digested is a reader whose end is an error when what was read has another digest.
type digested struct {
	r    io.Reader
	h    hash.Hash
	want []byte
}

func (d *digested) Read(b []byte) (int, error) {
	n, err := d.r.Read(b)
	d.h.Write(b[:n])
	if errors.Is(err, io.EOF) && !bytes.Equal(d.h.Sum(nil), d.want) {
		return n, fmt.Errorf("%w: the image is another than the launch document names", ErrRefused)
	}
	return n, err
}

// keepImage removes the images of all other digests.
func (d Dir) keepImage(digest []byte) {
	images, err := filepath.Glob(filepath.Join(string(d), "image*"))
	if err != nil {
		return
	}
	for _, path := range images {
		if path != d.newImage(digest) {
			_ = os.Remove(path) // what stays only takes space
		}
	}
}

// discardState removes what the instance keeps: its state, and its TPM.
func (d Dir) discardState() error {
	if err := os.RemoveAll(d.TPM()); err != nil {
		return fmt.Errorf("discard state: %w", err)
	}
	if err := os.RemoveAll(d.State()); err != nil {
		return fmt.Errorf("discard state: %w", err)
	}
	return os.MkdirAll(d.State(), 0o700)
}

// TPM is where the emulated TPM of a virtual machine keeps its memory.
func (d Dir) TPM() string { return filepath.Join(string(d), "tpm") }

// Input holds the input called name.
func (d Dir) Input(name string) string { return filepath.Join(string(d), "in", filepath.Base(name)) }

// Output holds the output called name.
func (d Dir) Output(name string) string { return filepath.Join(string(d), "out", filepath.Base(name)) }

// State is the program's own directory; it survives restarts.
func (d Dir) State() string { return filepath.Join(string(d), "state") }

// Root is the empty directory on which an instance mounts its root.
func (d Dir) Root() string { return filepath.Join(string(d), "root") }

// Log is the console log; older parts are Log + ".1".
func (d Dir) Log() string { return filepath.Join(string(d), "console.log") }

// ShimLog is what the shim itself prints.
func (d Dir) ShimLog() string { return filepath.Join(string(d), "shim.log") }

// Lock is held by the shim for as long as it lives.
func (d Dir) Lock() string { return filepath.Join(string(d), "shim.lock") }

// Socket is where the shim answers its supervisor.
func (d Dir) Socket() string { return filepath.Join(string(d), "shim.sock") }

// Intent is what was committed to disk before anything was started.
type Intent struct {
	Version  int             `json:"version"`
	ID       string          `json:"id"`
	Name     string          `json:"name"`
	Created  time.Time       `json:"created"`
	Spec     Spec            `json:"spec"`
	Expected tee.Measurement `json:"expected_measurement"`
	// ExpectedRegisters are what it is over.
	ExpectedRegisters map[string]string `json:"expected_registers,omitempty"`
	Simulated         bool              `json:"simulated,omitempty"`
	// Size is what it takes of the host.
	Size Size `json:"size,omitzero"`
	// Want is "running", "stopped" or "deleted".
	Want  string `json:"want"`
	Epoch int    `json:"epoch"`
}

// What an intent can want.
const (
	WantRunning = "running"
	WantStopped = "stopped"
	WantDeleted = "deleted"
)

// intentVersion is the version of the intent file that this code writes.
const intentVersion = 1

// Make creates the directory and its fixed parts.
func (d Dir) Make() error {
	for _, sub := range []string{"in", "out", "state", "root"} {
		if err := os.MkdirAll(filepath.Join(string(d), sub), 0o700); err != nil {
			return fmt.Errorf("make instance directory: %w", err)
		}
	}
	return nil
}

// WriteIntent commits an intent: when it returns nil, the intent survives a
// crash of the machine.
func (d Dir) WriteIntent(i Intent) error {
	i.Version = intentVersion
	b, err := json.MarshalIndent(i, "", " ")
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(d.intentFile(), b, 0o600); err != nil {
		return fmt.Errorf("write intent: %w", err)
	}
	return syncDir(string(d))
}

// maxIntent is the largest intent file in bytes.
const maxIntent = 1 << 20

// ReadIntent reads the committed intent. A directory without one, left by a
// crash before the commit, gives fs.ErrNotExist.
func (d Dir) ReadIntent() (Intent, error) {
	var i Intent
	if err := readJSON(d.intentFile(), maxIntent, &i); err != nil {
		return Intent{}, err
	}
	if i.Version != intentVersion || i.ID == "" {
		return Intent{}, fmt.Errorf("%s: version %d: want %d", d.intentFile(), i.Version, intentVersion)
	}
	return i, nil
}

// WriteStatus replaces the status. It is not synced: after a crash of the
// machine nothing runs, whatever the file says.
func (d Dir) WriteStatus(s Status) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	tmp := d.statusFile() + ".new"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	return os.Rename(tmp, d.statusFile())
}

// ReadStatus returns the last status, or the zero status when there is none or
// a crash tore it.
func (d Dir) ReadStatus() Status {
	var s Status
	if readJSON(d.statusFile(), 1<<20, &s) != nil {
		return Status{}
	}
	return s
}

// StoreFile copies r to path, synced, at most limit bytes.
func StoreFile(path string, r io.Reader, limit int64) error {
	f, err := renameio.NewPendingFile(path, renameio.WithPermissions(0o600))
	if err != nil {
		return fmt.Errorf("store %s: %w", filepath.Base(path), err)
	}
	defer func() { _ = f.Cleanup() }()
	n, err := io.Copy(f, io.LimitReader(r, limit+1))
	if err == nil && n > limit {
		err = fmt.Errorf("%w: larger than %d bytes", ErrRefused, limit)
	}
	if err == nil {
		err = f.CloseAtomicallyReplace()
	}
	if err != nil {
		return fmt.Errorf("store %s: %w", filepath.Base(path), err)
	}
	return nil
}

func readJSON(path string, limit int64, v any) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	err = f.Sync()
	if errors.Is(err, fs.ErrInvalid) {
		err = nil // not every file system syncs directories
	}
	return errors.Join(err, f.Close())
}
