package qemu

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/compute/machine"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/software"
)

// Boot starts the machine of an instance.
func (d *Driver) Boot(ctx context.Context, b compute.Boot) (compute.Machine, error) {
	f, err := d.find()
	if err != nil {
		return nil, err
	}
	size, err := SizeOf(b.Spec)
	if err != nil {
		return nil, err
	}
	ramDisk, err := d.ramDiskFile(f)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(ramDisk); err != nil { // another release was started on this data directory
		if _, err := d.ramDisk(f); err != nil {
			return nil, err
		}
	}
	maker, err := software.Connect(d.cfg.Platform)
	if err != nil {
		return nil, err
	}
	dir := b.Dir.TPM()
	if err := makeTPM(ctx, f.swtpm, dir, maker); err != nil {
		return nil, &tee.Error{Code: compute.CodeSandbox, Op: "start machine", Err: err, Hint: "see what this host offers: cloister doctor"}
	}
	variables := filepath.Join(string(b.Dir), "variables.fd")
	if err := copyFile(variables, variablesFile); err != nil { // new ones: they are measured
		return nil, err
	}
	platform := maker.Platform()
	i := &instance{node: compute.Node{Root: platform.RootCertificate, Runtime: platform.RuntimeDigest[:]}, done: make(chan struct{})}
	if err := i.start(f, start{
		dir: dir, variables: variables, ramDisk: ramDisk, commandLine: commandLineOf(b.Spec.Launch), size: size, output: b.Output, lock: b.Lock,
	}); err != nil {
		return nil, err
	}
	return i, nil
}

// start is what a machine is started with.
type start struct {
	dir, variables, ramDisk, commandLine string
	size                                 compute.Size
	output, lock                         *os.File
}

// The descriptors of QEMU.
const (
	qemuTPM = firstFile + iota
	qemuPort
	qemuLock
)

// arguments is the command line of QEMU. Without variables it boots with its own
// firmware, which measures less.
func (f files) arguments(s start) []string {
	var firmware []string
	if s.variables != "" {
		firmware = []string{
			"-drive", "if=pflash,format=raw,unit=0,readonly=on,file=" + firmwareFile,
			"-drive", "if=pflash,format=raw,unit=1,file=" + s.variables,
		}
	}
	return append(firmware,
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-net", "none",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-M", "q35", "-accel", "tcg,tb-size=32", "-cpu", "max", "-m", strconv.Itoa(s.size.MemoryMiB), "-smp", strconv.Itoa(s.size.VCPUs),
		"-kernel", f.kernel, "-initrd", s.ramDisk, "-append", s.commandLine,
		"-chardev", fmt.Sprintf("socket,id=tpm,fd=%d", qemuTPM), "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0",
		"-device", "virtio-serial-pci", "-chardev", fmt.Sprintf("socket,id=port,fd=%d", qemuPort), "-device", "virtserialport,chardev=port,name="+machine.PortName,
		"-serial", "stdio",
	)
}

// instance is a running machine.
type instance struct {
	node    compute.Node
	channel net.Conn
	qemu    *process
	tpm     *process
	said    *tail
	done    chan struct{}
	reading sync.WaitGroup
	lostTPM bool // read it after done
}

func (i *instance) start(f files, s start) error {
	fail := func(err error) error {
		return &tee.Error{Code: compute.CodeSandbox, Op: "start machine", Err: err, Hint: "see what this host offers: cloister doctor"}
	}
	printed, printing, err := os.Pipe()
	if err != nil {
		return fail(err)
	}
	defer func() { _ = printing.Close() }()
	i.said = &tail{to: s.output}
	i.reading.Go(func() { _, _ = io.Copy(i.said, printed); _ = printed.Close() })
	tpm, tpmSocket, err := startTPM(f.swtpm, s.dir, printing, s.lock)
	if err != nil {
		return fail(err)
	}
	defer func() { _ = tpmSocket.Close() }()
	i.tpm = tpm
	ours, theirs, err := socketpair("port")
	if err != nil {
		tpm.kill()
		return fail(err)
	}
	defer func() { _ = theirs.Close() }()
	i.channel, err = net.FileConn(ours)
	_ = ours.Close()
	if err == nil {
		i.qemu, err = startProcess(filepath.Dir(s.dir), printing, []*os.File{tpmSocket, theirs, s.lock}, f.qemu, f.arguments(s)...)
	}
	if err != nil {
		tpm.kill()
		return fail(err)
	}
	go i.watch()
	return nil
}

// tpmGrace is how long a machine whose TPM has ended may take to end by itself.
const tpmGrace = time.Second

// watch ends the machine with its TPM, and the TPM with its machine.
func (i *instance) watch() {
	select {
	case <-i.tpm.done:
		select {
		case <-i.qemu.done: // the TPM ends with its machine, and may be seen first
		case <-time.After(tpmGrace):
			i.lostTPM = true
		}
	case <-i.qemu.done:
	}
	i.qemu.kill()
	i.tpm.kill()
	_ = i.channel.Close()
	i.reading.Wait()
	close(i.done)
}

func (i *instance) Channel() io.ReadWriteCloser { return i.channel }
func (i *instance) Done() <-chan struct{}       { return i.done }
func (i *instance) Node() compute.Node          { return i.node }

// Kill ends the machine and waits for it.
func (i *instance) Kill() {
	i.qemu.kill()
	<-i.done
}

// Postmortem says what the machine said at its end.
func (i *instance) Postmortem() (code, message string) {
	<-i.done
	said := i.said.String()
	switch {
	case i.lostTPM:
		return compute.CodePlatformLost, "the machine's TPM ended"
	case bytes.Contains([]byte(said), []byte("reached its memory limit")):
		return compute.CodeOutOfMemory, "the instance reached its memory limit"
	case said != "":
		return compute.CodeAgentLost, "the machine ended: " + said
	case i.qemu.err != nil:
		return compute.CodeAgentLost, "the machine ended without a word: " + i.qemu.err.Error()
	default:
		return "", ""
	}
}

// tail passes on what a machine prints, up to a limit, and remembers the end of it.
type tail struct {
	to io.Writer

	mu     sync.Mutex
	passed int
	last   []byte
}

const (
	maxPassed = 1 << 20 // bytes that reach the host's log
	maxLast   = 1 << 10
)

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := min(len(b), maxPassed-t.passed); n > 0 && t.to != nil {
		_, _ = t.to.Write(b[:n])
		t.passed += n
	}
	t.last = append(t.last, b...)
	t.last = t.last[max(0, len(t.last)-maxLast):]
	return len(b), nil
}

// String is the end of what was printed, as one line of printable characters.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.Join(bytes.Fields(bytes.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, t.last)), []byte(" ")))
}

func copyFile(to, from string) error {
	b, err := readBounded(from, maxModule)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o600)
}
