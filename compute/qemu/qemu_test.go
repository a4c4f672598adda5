package qemu

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/compute/qemu/expect"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/eventlog"
	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/cloister-cc/cloister/tee/tpm"
	"github.com/cloister-cc/cloister/tee/tpm/tpmtest"
)

func TestSizeOf(t *testing.T) {
	for _, c := range []struct {
		program uint32
		asked   compute.Size
		want    compute.Size
		text    string
	}{
		{64, compute.Size{}, compute.Size{VCPUs: 1, MemoryMiB: 256}, ""},
		{96, compute.Size{}, compute.Size{VCPUs: 1, MemoryMiB: 256}, ""},
		{97, compute.Size{}, compute.Size{VCPUs: 1, MemoryMiB: 320}, ""},
		{256, compute.Size{VCPUs: 4}, compute.Size{VCPUs: 4, MemoryMiB: 448}, ""},
		{256, compute.Size{MemoryMiB: 4096}, compute.Size{VCPUs: 1, MemoryMiB: 4096}, ""},
		{256, compute.Size{MemoryMiB: 415}, compute.Size{}, "too small for a program of 256 MiB: want at least 416"},
		{64, compute.Size{MemoryMiB: 255}, compute.Size{}, "want 256 to"},
		{64, compute.Size{VCPUs: 65}, compute.Size{}, "65 processors"},
		{64, compute.Size{VCPUs: -1}, compute.Size{}, "-1 processors"},
	} {
		d := launch.New(launch.Wasm, nil)
		d.MemoryMiB = c.program
		got, err := SizeOf(compute.Spec{Launch: d, Size: c.asked})
		if c.text == "" && (err != nil || got != c.want) || c.text != "" && (err == nil || !strings.Contains(err.Error(), c.text)) {
			t.Errorf("%d MiB as %+v: %+v, %v", c.program, c.asked, got, err)
		}
	}
}

func TestNewestKernel(t *testing.T) {
	want := []string{"vmlinuz-5.10.0-9-amd64", "vmlinuz-6.1.0-9-cloud-amd64", "vmlinuz-6.1.0-56-cloud-amd64", "vmlinuz-6.1.0-057-cloud-amd64", "vmlinuz-6.12.1", "vmlinuz-6.12.1-a"}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, compareVersions)
	if !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	if compareVersions("6.1", "6.1") != 0 || compareVersions("6.01", "6.1") != 0 {
		t.Error("the same version twice differs")
	}
}

// kernelFile is a file that has the header of a kernel with a version.
func kernelFile(t *testing.T, version string) string {
	t.Helper()
	b := make([]byte, 0x2000)
	copy(b[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(b[0x20E:], 0x1000-0x200)
	copy(b[0x1000:], version+" (builder@host) #1 SMP\x00")
	path := filepath.Join(t.TempDir(), "boot", "vmlinuz")
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, b, 0o600)); err != nil {
		t.Fatal(err)
	}
	return path
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// TestModules: a kernel's modules are found beside it by the version that it says
// itself; what is missing is named, and how to get it.
func TestModules(t *testing.T) {
	kernel := kernelFile(t, "9.9.9-test")
	if dir, err := modulesOf(kernel); !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "linux-image-9.9.9-test") || dir != "" {
		t.Errorf("%s, %v", dir, err)
	}
	base := filepath.Join(filepath.Dir(filepath.Dir(kernel)), "lib/modules/9.9.9-test")
	for i, name := range drivers() {
		if i != 2 {
			write(t, filepath.Join(base, "kernel", name+".ko"), "module "+name)
		}
	}
	dir, err := modulesOf(kernel)
	if err != nil || dir != base {
		t.Fatalf("%s, %v", dir, err)
	}
	if _, err := archiveOf([]byte("program"), dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a driver: %v", err)
	}
	write(t, filepath.Join(base, "modules.builtin"), "kernel/fs/x.ko\nkernel/"+drivers()[2]+".ko\n")
	archive, err := archiveOf([]byte("program"), dir)
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	for i, name := range drivers() { // loaded by the order of their names
		if i == 2 {
			continue
		}
		next := bytes.Index(archive, []byte("-"+filepath.Base(name)+".ko\x00"))
		if next < at || !bytes.Contains(archive, []byte("module "+name)) {
			t.Errorf("%s is at %d, after %d", name, next, at)
		}
		at = next
	}
	if bytes.Contains(archive, []byte("legacy")) {
		t.Error("a driver that is built in is in the archive")
	}
	one, err1 := initrd([]byte("program"), dir)
	two, err2 := initrd([]byte("program"), dir)
	other, err3 := initrd([]byte("Program"), dir)
	if err := errors.Join(err1, err2, err3); err != nil || !bytes.Equal(one, two) || bytes.Equal(one, other) {
		t.Errorf("the same parts make other bytes, or others the same: %v", err)
	}
}

func TestKernelVersionRefuses(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"empty": "", "text": strings.Repeat("x", 0x3000)} {
		write(t, filepath.Join(dir, name), content)
		if v, err := kernelVersion(filepath.Join(dir, name)); err == nil || v != "" {
			t.Errorf("%s: version %q", name, v)
		}
	}
	for _, version := range []string{"", "..", "../../etc", "a/b"} {
		if v, err := kernelVersion(kernelFile(t, version)); err == nil {
			t.Errorf("version %q of %q", v, version)
		}
	}
}

// TestMissing: a host without anything is told all of it at once.
func TestMissing(t *testing.T) {
	if _, err := os.Stat(firmwareFile); err == nil || lookFor("swtpm") != "" {
		t.Skip("this machine has what virtual machines need")
	}
	_, err := New(Config{}).Expect(compute.Spec{Launch: launch.New(launch.Wasm, nil)})
	for _, text := range []string{"qemu-system-x86", "swtpm", "ovmf", "linux-image-cloud-amd64", "apt-get install"} {
		if !errors.Is(err, &tee.Error{Code: compute.CodeNoDriver}) || !strings.Contains(err.Error(), text) {
			t.Errorf("%v does not name %s", err, text)
		}
	}
	c := New(Config{}).Probe(context.Background())
	if c.Available || !c.Simulated || c.Hint == "" || !strings.Contains(c.Detail, "apt-get install") {
		t.Errorf("%+v", c)
	}
}

func TestRolesDoNotRun(t *testing.T) {
	if _, err := New(Config{}).Expect(compute.Spec{Launch: launch.NewBuiltin(launch.RoleNode)}); err == nil {
		t.Error("the node runs in a machine")
	}
}

// TestArguments: what a machine is started with. All devices that it has are here.
func TestArguments(t *testing.T) {
	f := files{kernel: "/k"}
	args := f.arguments(start{variables: "/v", ramDisk: "/i", commandLine: commandLine, size: compute.Size{VCPUs: 2, MemoryMiB: 512}})
	line := strings.Join(args, " ")
	for _, want := range []string{
		"if=pflash,format=raw,unit=0,readonly=on,file=" + firmwareFile, "unit=1,file=/v", "-kernel /k -initrd /i -append panic=-1 quiet loglevel=0", "-m 512 -smp 2",
		"-nodefaults -no-user-config", "-net none", "-no-reboot", "name=cloister.0", "tpm-crb,tpmdev=tpm0", "-sandbox on",
	} {
		if !strings.Contains(line, want) {
			t.Errorf("no %q in %s", want, line)
		}
	}
	var devices []string
	for i, a := range args {
		if a == "-device" {
			devices = append(devices, args[i+1])
		}
	}
	if want := []string{"tpm-crb,tpmdev=tpm0", "virtio-serial-pci", "virtserialport,chardev=port,name=cloister.0"}; !slices.Equal(devices, want) {
		t.Errorf("devices %q", devices)
	}
	if line := strings.Join(f.arguments(start{}), " "); strings.Contains(line, "pflash") {
		t.Errorf("a machine without variables has firmware: %s", line)
	}
	d := launch.New(launch.Wasm, nil)
	if commandLineOf(d) != commandLine || strings.Contains(commandLine, "console=") {
		t.Error("a machine has a console without debug")
	}
	d.Debug = true
	if !strings.Contains(commandLineOf(d), "console=ttyS0") {
		t.Error("a debug machine has no console")
	}
}

// TestCompare names registers that differ, and believes nothing else.
func TestCompare(t *testing.T) {
	chip := tpmtest.New(t, tpm.ECDSA)
	ev, err := chip.Evidence(t.Context(), [64]byte{})
	if err != nil {
		t.Fatal(err)
	}
	e := compute.Expectation{Registers: map[string]string{}}
	for i := range uint32(expect.Registers) {
		e.Registers[strconv.Itoa(int(i))] = hex.EncodeToString(chip.PCRs[eventlog.SHA256][i])
	}
	d := New(Config{})
	if out := d.Compare(e, ev); len(out) != 0 {
		t.Errorf("as expected: %v", out)
	}
	e.Registers["9"], e.Registers["4"] = strings.Repeat("00", 32), strings.Repeat("11", 32)
	out := d.Compare(e, ev)
	if len(out) != 2 || out[0].Claim != "PCR 4" || out[1].Claim != "PCR 9" || !strings.Contains(out[1].Hint, "kernel command line") || out[1].Want != strings.Repeat("00", 32) {
		t.Errorf("%v", out)
	}
	if out := d.Compare(compute.Expectation{}, ev); len(out) != 0 {
		t.Errorf("nothing was expected: %v", out)
	}
	if out := d.Compare(e, tee.Evidence{Data: []byte("x")}); len(out) == 0 {
		t.Error("no evidence is as expected")
	}
}

func TestTail(t *testing.T) {
	var passed bytes.Buffer
	l := &tail{to: &passed}
	for range 3 * maxPassed / 1000 {
		if n, err := l.Write(bytes.Repeat([]byte("x"), 1000)); n != 1000 || err != nil {
			t.Fatal(n, err)
		}
	}
	if _, err := l.Write([]byte("\x1b[2J\nmachine:\t the end\r\n")); err != nil {
		t.Fatal(err)
	}
	if passed.Len() != maxPassed || len(l.last) != maxLast {
		t.Errorf("%d bytes passed, %d remembered", passed.Len(), len(l.last))
	}
	if s := l.String(); !strings.HasSuffix(s, "x [2J machine: the end") {
		t.Errorf("%q", s)
	}
}
