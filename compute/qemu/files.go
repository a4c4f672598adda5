package qemu

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Where Debian's package ovmf has its files.
const (
	firmwareFile  = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	variablesFile = "/usr/share/OVMF/OVMF_VARS_4M.fd"
)

// Bounds of what is read, in bytes.
const (
	maxKernel = 128 << 20
	maxModule = 16 << 20
	maxHeader = 128 << 10 // of a kernel
)

// install is the command that installs what is missing.
const install = "apt-get install --no-install-recommends"

// ErrMissing means that this machine lacks something that virtual machines need. It is
// wrapped with what, and how to get it.
var ErrMissing = errors.New("missing")

// files are what a machine is made of, on the host.
type files struct {
	qemu, swtpm string // programs
	kernel      string
	modules     string // directory of the kernel's modules
}

// find looks for everything that a machine needs. The kernel is the given file, or the
// one that is installed.
func find(kernel string) (files, error) {
	var f files
	var missing, packages []string
	lack := func(what, pkg string) { missing, packages = append(missing, what), append(packages, pkg) }
	if f.qemu = lookFor("qemu-system-x86_64"); f.qemu == "" {
		lack("qemu-system-x86_64", "qemu-system-x86")
	}
	if f.swtpm = lookFor("swtpm"); f.swtpm == "" {
		lack("swtpm", "swtpm")
	}
	for _, path := range []string{firmwareFile, variablesFile} {
		if _, err := os.Stat(path); err != nil && !slices.Contains(packages, "ovmf") {
			lack(path, "ovmf")
		}
	}
	if kernel == "" {
		kernel = installedKernel()
	}
	if kernel == "" {
		lack("a kernel (/boot/vmlinuz-*-cloud-amd64)", "linux-image-cloud-amd64")
	}
	if len(missing) > 0 {
		return files{}, fmt.Errorf("%w: %s; get it: %s %s", ErrMissing, strings.Join(missing, ", "), install, strings.Join(packages, " "))
	}
	f.kernel = kernel
	var err error
	f.modules, err = modulesOf(kernel)
	return f, err
}

// lookFor finds a program, also in a process without an environment, as owners of
// instances are.
func lookFor(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, dir := range []string{"/usr/local/bin", "/usr/bin", "/bin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	return ""
}

// installedKernel is the newest kernel for clouds that is installed, or the newest one.
func installedKernel() string {
	for _, pattern := range []string{"/boot/vmlinuz-*-cloud-amd64", "/boot/vmlinuz-*"} {
		if found, err := filepath.Glob(pattern); err == nil && len(found) > 0 {
			return slices.MaxFunc(found, compareVersions)
		}
	}
	return ""
}

// compareVersions compares texts with the numbers in them as numbers.
func compareVersions(a, b string) int {
	digits := func(s string) string { return s[:len(s)-len(strings.TrimLeft(s, "0123456789"))] }
	for a != "" && b != "" {
		x, y := digits(a), digits(b)
		if x != "" && y != "" {
			p, q := strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
			if c := len(p) - len(q); c != 0 {
				return c
			}
			if c := strings.Compare(p, q); c != 0 {
				return c
			}
			a, b = a[len(x):], b[len(y):]
			continue
		}
		if a[0] != b[0] {
			return int(a[0]) - int(b[0])
		}
		a, b = a[1:], b[1:]
	}
	return len(a) - len(b)
}

// modulesOf finds the modules of a kernel, by the version that it says itself: beside
// it, as packages have them, or where this machine has its own.
func modulesOf(kernel string) (string, error) {
	version, err := kernelVersion(kernel)
	if err != nil {
		return "", err
	}
	base := filepath.Dir(filepath.Dir(kernel))
	for _, dir := range []string{filepath.Join(base, "lib/modules", version), filepath.Join(base, "usr/lib/modules", version), filepath.Join("/lib/modules", version)} {
		if _, err := os.Stat(filepath.Join(dir, "kernel")); err == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("%w: the modules of the kernel %s (version %s); they come in its package: %s linux-image-%s", ErrMissing, kernel, version, install, version)
}

// kernelVersion reads the version in the setup header of a kernel (Linux,
// Documentation/arch/x86/boot.rst, kernel_version).
func kernelVersion(kernel string) (string, error) {
	f, err := os.Open(kernel)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxHeader))
	if err != nil {
		return "", err
	}
	bad := fmt.Errorf("%s: not a Linux kernel (bzImage)", kernel)
	if len(b) < 0x1000 || string(b[0x202:0x206]) != "HdrS" {
		return "", bad
	}
	at := 0x200 + int(binary.LittleEndian.Uint16(b[0x20E:]))
	if at >= len(b) {
		return "", bad
	}
	text, _, _ := bytes.Cut(b[at:min(len(b), at+256)], []byte{0})
	version, _, _ := strings.Cut(string(text), " ")
	if version == "" || strings.ContainsAny(version, "/\x00") || version == ".." {
		return "", bad
	}
	return version, nil
}

func readBounded(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("%s: more than %d bytes", path, most)
	}
	return b, err
}
