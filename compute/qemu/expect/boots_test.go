package expect_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/compute/initramfs"
	"github.com/cloister-cc/cloister/compute/qemu/expect"
)

// Where Debian's package ovmf has its files.
const (
	debianCode      = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	debianVariables = "/usr/share/OVMF/OVMF_VARS_4M.fd"
)

// lab is what it takes to boot a machine.
type lab struct {
	firmware, kernel, guest []byte
	kernelFile              string
}

// newLab skips the test where something is not there; test/vm/run gets all of it.
func newLab(t *testing.T) lab {
	t.Helper()
	l := lab{kernelFile: os.Getenv("CLOISTER_VM_KERNEL")}
	if l.kernelFile == "" {
		t.Skip("no machine is booted: make vm does (CLOISTER_VM_KERNEL names a kernel of Linux)")
	}
	for _, tool := range []string{"qemu-system-x86_64", "swtpm"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("no %s: make vm gets it", tool)
		}
	}
	var err1, err2 error
	l.firmware, err1 = os.ReadFile(debianCode)
	l.kernel, err2 = os.ReadFile(l.kernelFile)
	if err := errors.Join(err1, err2); err != nil {
		t.Skipf("%v: make vm gets it", err)
	}
	exe := filepath.Join(t.TempDir(), "init")
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", exe, "./testdata/guest")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if l.guest, err1 = os.ReadFile(exe); err1 != nil {
		t.Fatal(err1)
	}
	return l
}

// initrd is a RAM disk with the guest, and so many bytes more.
func (l lab) initrd(t *testing.T, more int) []byte {
	t.Helper()
	b, err := initramfs.Build([]initramfs.File{
		{Path: "init", Mode: 0o755, Data: l.guest}, {Path: "dev/console", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o600, Major: 5, Minor: 1},
		{Path: "more", Mode: 0o644, Data: bytes.Repeat([]byte{0xAA}, more)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// boot boots a machine under emulation with a TPM that is new, and returns the
// registers that its first process reads.
func (l lab) boot(t *testing.T, g expect.Guest) map[uint32][]byte {
	t.Helper()
	dir := t.TempDir()
	initrd, variables, socket := filepath.Join(dir, "initrd"), filepath.Join(dir, "vars.fd"), filepath.Join(dir, "tpm")
	empty, err := os.ReadFile(debianVariables)
	if err := errors.Join(err, os.WriteFile(variables, empty, 0o600), os.WriteFile(initrd, g.Initrd, 0o600)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	tpm := exec.CommandContext(ctx, "swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir, "--ctrl", "type=unixio,path="+socket, "--terminate")
	if err := tpm.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tpm.Process.Kill(); _ = tpm.Wait() }()
	for range 1000 {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	machine := exec.CommandContext(ctx, "qemu-system-x86_64", "-display", "none", "-nodefaults", "-no-reboot", "-serial", "stdio", "-net", "none", "-M", "q35", "-accel", "tcg", "-cpu", "max",
		"-m", strconv.Itoa(g.MemoryMiB), "-smp", strconv.Itoa(g.VCPUs), "-kernel", l.kernelFile, "-initrd", initrd, "-append", g.CommandLine,
		"-drive", "if=pflash,format=raw,unit=0,readonly=on,file="+debianCode, "-drive", "if=pflash,format=raw,unit=1,file="+variables,
		"-chardev", "socket,id=tpm,path="+socket, "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0")
	out, err := machine.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %.2000s", err, out)
	}
	values := map[uint32][]byte{}
	for _, m := range regexp.MustCompile(`PCR (\d) ([0-9a-f]{64})`).FindAllSubmatch(out, -1) {
		n, _ := strconv.Atoi(string(m[1]))
		values[uint32(n)], _ = hex.DecodeString(string(m[2]))
	}
	if len(values) != expect.Registers {
		t.Fatalf("the guest printed %d registers: %.2000q", len(values), out)
	}
	return values
}

// below is a random number. The names of the tests say which shapes there were.
func below(t *testing.T, n int64) int {
	t.Helper()
	v, err := rand.Int(rand.Reader, big.NewInt(n))
	if err != nil {
		t.Fatal(err)
	}
	return int(v.Int64())
}

// TestBoots: what is computed of machines of random shapes is what they have when they
// were booted; and of another guest, the registers that differ say what is another.
func TestBoots(t *testing.T) {
	l := newLab(t)
	boots := 4
	if n, err := strconv.Atoi(os.Getenv("CLOISTER_VM_BOOTS")); err == nil {
		boots = n
	}
	for i := range boots {
		g := expect.Guest{
			Firmware: l.firmware, Kernel: l.kernel, MemoryMiB: 192 + below(t, 700), VCPUs: 1 + below(t, 4),
			Initrd: l.initrd(t, below(t, 300_000)), CommandLine: "console=ttyS0 panic=-1 quiet loglevel=1 x=" + strings.Repeat("y", below(t, 100)),
		}
		if i == 0 { // beyond the window of PCI Express
			g.MemoryMiB = 2900
		}
		t.Run(fmt.Sprintf("%dMiB-%dcpu-%d-%d", g.MemoryMiB, g.VCPUs, len(g.Initrd), len(g.CommandLine)), func(t *testing.T) {
			t.Parallel()
			want, err := expect.Of(g)
			if errors.Is(err, expect.ErrFirmware) {
				t.Skipf("this machine's OVMF is not one of those that are known, %v: %v", expect.Known(), err)
			}
			if err != nil {
				t.Fatal(err)
			}
			got := l.boot(t, g)
			for _, d := range want.Differences(got) {
				t.Error(d)
			}
			for pcr, change := range map[int]func(*expect.Guest){
				9: func(g *expect.Guest) { g.CommandLine += " evil=1" }, 0: func(g *expect.Guest) { g.VCPUs++ },
				4: func(g *expect.Guest) {
					g.Kernel = bytes.Clone(g.Kernel)
					g.Kernel[len(g.Kernel)/2] ^= 1
				},
			} {
				other := g
				change(&other)
				want, err := expect.Of(other)
				if d := want.Differences(got); err != nil || len(d) != 1 || d[0].PCR != pcr {
					t.Errorf("PCR %d: %v, %v", pcr, d, err)
				}
			}
		})
	}
}
