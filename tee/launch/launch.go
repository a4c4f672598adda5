// Package launch defines the launch document: what runs in an instance, in a
// canonical form whose digest is bound into evidence. Two layers are measured:
// the platform (firmware, kernel, or this program) by the TEE, and the workload
// by the digest of this document, so one platform measurement serves all
// workloads.
//
// # What it protects against
//
// A host that runs other code, other arguments or a debug instance under the
// same name: everything in [Document] changes the digest. The digest is taken
// over deterministic CBOR (RFC 8949 section 4.2.1) of the parsed document, so
// reformatting a file changes nothing, and [Parse] refuses any other encoding
// of the same document.
//
// # What it does not protect against
//
// The values of inputs, outputs and operator environment variables: only their
// names are measured. A program must treat them as written by the host.
package launch

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/fxamacker/cbor/v2"
)

// Bounds of a launch document. A document beyond them is refused.
const (
	MaxDocument = 64 << 10  // encoded bytes
	MaxItems    = 128       // entries of any list
	MaxString   = 4096      // bytes of any string
	MaxMemory   = 1 << 20   // MiB
	MaxImage    = 256 << 20 // bytes of an image
	version     = 1
)

// Role says which part of the system an instance plays.
type Role string

// The roles. The zero value is refused.
const (
	RoleWorkload Role = "workload" // a user's program
	RoleNode     Role = "node"     // attestation and keys
)

// ImageKind says what the image bytes are.
type ImageKind string

// The image kinds. The zero value is refused.
const (
	Wasm    ImageKind = "wasm"    // a WASI preview 1 command module
	ELF     ImageKind = "elf"     // a static Linux executable
	Builtin ImageKind = "builtin" // a role of this program; the digest is of the role's name
)

// Logs says which output of the program reaches the host in clear.
type Logs string

// The log levels. The zero value is refused.
const (
	LogsNone   Logs = "none"
	LogsStderr Logs = "stderr"
	LogsAll    Logs = "all"
)

// Image is what runs.
type Image struct {
	Kind   ImageKind `cbor:"1,keyasint" json:"kind"`
	Digest []byte    `cbor:"2,keyasint" json:"digest"` // SHA-256 of the image bytes
}

// Secret asks for a key of the key service under a local name.
type Secret struct {
	Name string `cbor:"1,keyasint" json:"name"` // what the program asks for
	Key  string `cbor:"2,keyasint" json:"key"`  // the key's name at the key service
}

// Document is the launch document. Every field is measured.
type Document struct {
	Version     uint8             `cbor:"1,keyasint" json:"version"`
	Role        Role              `cbor:"2,keyasint" json:"role"`
	Image       Image             `cbor:"3,keyasint" json:"image"`
	Args        []string          `cbor:"4,keyasint,omitempty" json:"args,omitempty"`
	Env         map[string]string `cbor:"5,keyasint,omitempty" json:"env,omitempty"`
	OperatorEnv []string          `cbor:"6,keyasint,omitempty" json:"operator_env,omitempty"` // names the host may set
	Inputs      []string          `cbor:"7,keyasint,omitempty" json:"inputs,omitempty"`       // names of files the host gives
	Outputs     []string          `cbor:"8,keyasint,omitempty" json:"outputs,omitempty"`      // names of files the host receives
	Secrets     []Secret          `cbor:"9,keyasint,omitempty" json:"secrets,omitempty"`
	Ports       []uint16          `cbor:"10,keyasint,omitempty" json:"ports,omitempty"`        // ports the program may listen on
	MemoryMiB   uint32            `cbor:"11,keyasint" json:"memory_mib"`                       // limit of the program's memory
	TimeLimit   uint32            `cbor:"12,keyasint,omitempty" json:"time_limit_s,omitempty"` // seconds; 0 = none
	Logs        Logs              `cbor:"13,keyasint" json:"logs"`
	Debug       bool              `cbor:"14,keyasint,omitempty" json:"debug,omitempty"`
	Signer      []byte            `cbor:"15,keyasint,omitempty" json:"signer,omitempty"` // SHA-256 of the signer's public key (SPKI DER)
	Product     uint32            `cbor:"16,keyasint,omitempty" json:"product,omitempty"`
	SVN         uint32            `cbor:"17,keyasint,omitempty" json:"svn,omitempty"`
}

// ErrInvalid is wrapped by every error of [Parse], [Document.Encode] and
// [Document.Validate]; the text names the field and what it must be.
var ErrInvalid = errors.New("invalid launch document")

// New returns a workload document for an image with the defaults that
// `cloister run` uses: 256 MiB of memory, all logs, no debug.
func New(kind ImageKind, image []byte) Document {
	d := sha256.Sum256(image)
	return Document{Version: version, Role: RoleWorkload, Image: Image{Kind: kind, Digest: d[:]}, MemoryMiB: 256, Logs: LogsAll}
}

// NewBuiltin returns the document of one of this program's own roles.
func NewBuiltin(role Role) Document {
	d := New(Builtin, []byte("cloister builtin image: "+string(role)))
	d.Role = role
	return d
}

// Encode validates the document and returns its deterministic CBOR.
func (d Document) Encode() ([]byte, error) {
	if err := d.Validate(); err != nil {
		return nil, err
	}
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return nil, err
	}
	b, err := mode.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrInvalid, err)
	}
	if len(b) > MaxDocument {
		return nil, fmt.Errorf("%w: %d bytes encoded, at most %d", ErrInvalid, len(b), MaxDocument)
	}
	return b, nil
}

// Digest returns the launch digest: SHA-256 of [Document.Encode].
func (d Document) Digest() ([32]byte, error) {
	b, err := d.Encode()
	if err != nil {
		return [32]byte{}, err
	}
	return sha256.Sum256(b), nil
}

// Parse reads a canonical document. It refuses unknown and duplicate fields,
// any non-deterministic encoding, trailing bytes and everything that
// [Document.Validate] refuses.
func Parse(b []byte) (Document, error) {
	var d Document
	if len(b) > MaxDocument {
		return d, fmt.Errorf("%w: %d bytes, at most %d", ErrInvalid, len(b), MaxDocument)
	}
	mode, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels:   8,
		MaxArrayElements:  1024,
		MaxMapPairs:       1024,
		UTF8:              cbor.UTF8RejectInvalid,
	}.DecMode()
	if err != nil {
		return d, err
	}
	if err := mode.Unmarshal(b, &d); err != nil {
		return Document{}, fmt.Errorf("%w: %v", ErrInvalid, err)
	}
	again, err := d.Encode()
	if err != nil {
		return Document{}, err
	}
	if !bytes.Equal(again, b) {
		return Document{}, fmt.Errorf("%w: not in deterministic encoding", ErrInvalid)
	}
	return d, nil
}

// Validate reports every field that is missing or out of bounds.
func (d Document) Validate() error {
	var errs []string
	bad := func(format string, a ...any) { errs = append(errs, fmt.Sprintf(format, a...)) }
	if d.Version != version {
		bad("version %d: want %d", d.Version, version)
	}
	if d.Role != RoleWorkload && d.Role != RoleNode {
		bad("role %q: want workload or node", d.Role)
	}
	if !slices.Contains([]ImageKind{Wasm, ELF, Builtin}, d.Image.Kind) {
		bad("image.kind %q: want wasm, elf or builtin", d.Image.Kind)
	}
	if (d.Image.Kind == Builtin) != (d.Role != RoleWorkload) {
		bad("role %q does not go with image.kind %q", d.Role, d.Image.Kind)
	}
	if len(d.Image.Digest) != sha256.Size {
		bad("image.digest: %d bytes, want %d", len(d.Image.Digest), sha256.Size)
	}
	if d.MemoryMiB < 1 || d.MemoryMiB > MaxMemory {
		bad("memory_mib %d: want 1 to %d", d.MemoryMiB, MaxMemory)
	}
	if !slices.Contains([]Logs{LogsNone, LogsStderr, LogsAll}, d.Logs) {
		bad("logs %q: want none, stderr or all", d.Logs)
	}
	if n := len(d.Signer); n != 0 && n != sha256.Size {
		bad("signer: %d bytes, want none or %d", n, sha256.Size)
	}
	if len(d.Signer) == 0 && (d.Product != 0 || d.SVN != 0) {
		bad("product and svn need a signer")
	}
	d.validateLists(bad)
	if len(errs) > 0 {
		return fmt.Errorf("%w: %s", ErrInvalid, strings.Join(errs, "; "))
	}
	return nil
}

func (d Document) validateLists(bad func(string, ...any)) {
	for name, n := range map[string]int{
		"args": len(d.Args), "env": len(d.Env), "operator_env": len(d.OperatorEnv), "inputs": len(d.Inputs),
		"outputs": len(d.Outputs), "secrets": len(d.Secrets), "ports": len(d.Ports),
	} {
		if n > MaxItems {
			bad("%s: %d entries, at most %d", name, n, MaxItems)
		}
	}
	for i, a := range d.Args {
		if len(a) > MaxString || strings.ContainsRune(a, 0) {
			bad("args[%d]: longer than %d bytes or holds a zero byte", i, MaxString)
		}
	}
	for k, v := range d.Env {
		if !validEnvName(k) || len(v) > MaxString || strings.ContainsRune(v, 0) {
			bad("env %q: bad name or value", k)
		}
	}
	for _, k := range d.OperatorEnv {
		if _, fixed := d.Env[k]; fixed || !validEnvName(k) {
			bad("operator_env %q: bad name, or fixed in env", k)
		}
	}
	secretNames := make([]string, len(d.Secrets))
	for i, s := range d.Secrets {
		secretNames[i] = s.Name
		if !ValidKeyName(s.Key) {
			bad("secrets[%d].key %q: not a key name", i, s.Key)
		}
	}
	for what, names := range map[string][]string{"inputs": d.Inputs, "outputs": d.Outputs, "secrets": secretNames} {
		for i, s := range names {
			if !validFileName(s) {
				bad("%s: %q is not a name (lower-case letters, digits, '.', '_', '-')", what, s)
			}
			if slices.Contains(names[:i], s) {
				bad("%s: %q twice", what, s)
			}
		}
	}
	for i, p := range d.Ports {
		if p == 0 || slices.Contains(d.Ports[:i], p) {
			bad("ports: %d is zero or twice", p)
		}
	}
}
