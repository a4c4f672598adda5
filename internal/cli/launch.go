package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/compute/qemu"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
)

// launchFlags are the flags that say what to launch; run, create and measure
// share them.
type launchFlags struct {
	file      string
	in        []string
	out       []string
	secrets   []string
	env       []string
	operator  []string
	ports     []uint
	memory    uint32
	timeLimit uint32
	logs      string
	debug     bool
	signature string
	tee       string
	size      compute.Size
	project   string
}

func (l *launchFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&l.file, "launch", "", "launch file (YAML); other flags add to it")
	f.StringArrayVar(&l.in, "in", nil, "input for the program: NAME=FILE, repeatable; the file is not measured, its name is")
	f.StringArrayVar(&l.out, "out", nil, "output of the program: NAME=FILE (written when it ends), repeatable")
	f.StringArrayVar(&l.secrets, "secret", nil, "secret for the program: NAME=KEY, the key's name at the key service, repeatable")
	f.StringArrayVar(&l.env, "env", nil, "measured environment variable: NAME=VALUE, repeatable")
	f.StringArrayVar(&l.operator, "operator-env", nil, "environment variable whose value is not measured: NAME=VALUE, repeatable")
	f.UintSliceVar(&l.ports, "port", nil, "port that the program listens on, repeatable")
	f.Uint32Var(&l.memory, "memory", 0, "memory limit of the program in MiB (default 256)")
	f.Uint32Var(&l.timeLimit, "time-limit", 0, "seconds that the program may run (default no limit)")
	f.StringVar(&l.logs, "logs", "", "what of the program's output reaches the host: all, stderr or none (default all)")
	f.BoolVar(&l.debug, "debug", false, "debug launch: evidence says so, and production policies refuse it")
	f.StringVar(&l.signature, "signature", "", "image signature (cloister enclave sign)")
	f.StringVar(&l.tee, "tee", string(tee.Software), "TEE to run in: software (simulated), or tpm-vm, a virtual machine with a TPM")
}

// registerHost adds the flags that are of the host and not measured, and those for the
// size of a virtual machine.
func (l *launchFlags) registerHost(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&l.project, "project", "", "project whose quota the instance takes from (default \""+compute.DefaultProject+"\")")
	f.IntVar(&l.size.VCPUs, "vcpus", 0, "tpm-vm: virtual processors (default 1)")
	f.IntVar(&l.size.MemoryMiB, "vm-memory", 0, "tpm-vm: memory of the machine in MiB (default what the program needs, and 160)")
}

// prepared is everything that an instance is made from.
type prepared struct {
	spec    compute.Spec
	image   []byte
	inputs  map[string]string // name -> file
	outputs map[string]string
}

// prepare reads the image and builds the launch document. args are the
// program's arguments.
func (l *launchFlags) prepare(imagePath string, args []string) (prepared, error) {
	image, kind, err := readImage(imagePath)
	if err != nil {
		return prepared{}, err
	}
	p := prepared{image: image, inputs: map[string]string{}, outputs: map[string]string{}}
	if p.spec.TEE, err = tee.ParseKind(l.tee); err != nil {
		return prepared{}, usageError(err.Error(), "")
	}
	p.spec.Size, p.spec.Project = l.size, l.project
	d := launch.New(kind, image)
	if l.file != "" {
		b, err := os.ReadFile(l.file)
		if err != nil {
			return prepared{}, err
		}
		if d, err = compute.ApplyLaunchFile(d, b); err != nil {
			return prepared{}, &coded{status: exitUsage, code: "launch_file", err: err, hint: "fields: args, env, operator_env, inputs, outputs, secrets, ports, memory_mib, time_limit_s, logs, debug"}
		}
	}
	if err := l.apply(&d, &p, args); err != nil {
		return prepared{}, err
	}
	if l.signature != "" {
		if p.spec.Signature, err = os.ReadFile(l.signature); err != nil {
			return prepared{}, err
		}
		if d, err = d.Signed(p.spec.Signature); err != nil {
			return prepared{}, &coded{status: exitRefused, code: "signature", err: err, hint: "sign this very image: cloister enclave sign"}
		}
	}
	if err := d.Validate(); err != nil {
		return prepared{}, &coded{status: exitUsage, code: "launch", err: err}
	}
	p.spec.Launch = d
	return p, checkSize(p.spec)
}

// checkSize refuses a size that no machine has, and one for what is no machine.
func checkSize(spec compute.Spec) error {
	if spec.TEE != tee.TPM {
		if spec.Size != (compute.Size{}) {
			return usageError("--vcpus and --vm-memory are for virtual machines", "give --tee tpm-vm, or limit the program's memory with --memory")
		}
		return nil
	}
	if _, err := qemu.SizeOf(spec); err != nil {
		return usageError(err.Error(), "give another --vcpus, --vm-memory or --memory")
	}
	return nil
}

// apply lets flags add to the launch file.
func (l *launchFlags) apply(d *launch.Document, p *prepared, args []string) error {
	if len(args) > 0 {
		d.Args = args
	}
	for _, list := range []struct {
		flag   string
		values []string
		set    func(name, value string)
	}{
		{"in", l.in, func(n, v string) { p.inputs[n] = v; d.Inputs = addName(d.Inputs, n) }},
		{"out", l.out, func(n, v string) { p.outputs[n] = v; d.Outputs = addName(d.Outputs, n) }},
		{"secret", l.secrets, func(n, v string) { d.Secrets = append(d.Secrets, launch.Secret{Name: n, Key: v}) }},
		{"env", l.env, func(n, v string) { put(&d.Env, n, v) }},
		{"operator-env", l.operator, func(n, v string) { put(&p.spec.Env, n, v); d.OperatorEnv = addName(d.OperatorEnv, n) }},
	} {
		for _, kv := range list.values {
			name, value, ok := strings.Cut(kv, "=")
			if !ok || name == "" {
				return usageError(fmt.Sprintf("--%s %q: want NAME=VALUE", list.flag, kv), "")
			}
			list.set(name, value)
		}
	}
	for _, port := range l.ports {
		if port > 65535 {
			return usageError(fmt.Sprintf("--port %d: want 1 to 65535", port), "")
		}
		d.Ports = append(d.Ports, uint16(port))
	}
	if l.memory > 0 {
		d.MemoryMiB = l.memory
	}
	if l.timeLimit > 0 {
		d.TimeLimit = l.timeLimit
	}
	if l.logs != "" {
		d.Logs = launch.Logs(l.logs)
	}
	d.Debug = d.Debug || l.debug
	for _, name := range d.Inputs {
		if p.inputs[name] == "" {
			return usageError(fmt.Sprintf("input %q of the launch file was not given", name), "give it: --in "+name+"=FILE")
		}
	}
	return nil
}

func addName(list []string, name string) []string {
	if slices.Contains(list, name) {
		return list
	}
	return append(list, name)
}

func put(m *map[string]string, k, v string) {
	if *m == nil {
		*m = map[string]string{}
	}
	(*m)[k] = v
}

// readImage reads an image and tells its kind by its first bytes.
func readImage(path string) ([]byte, launch.ImageKind, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, "", &coded{status: exitUsage, code: "image", err: err, hint: "name a WebAssembly module or a static Linux executable"}
	}
	defer func() { _ = f.Close() }()
	refuse := func(why, hint string) ([]byte, launch.ImageKind, error) {
		return nil, "", &coded{status: exitUsage, code: "image", err: fmt.Errorf("image %s: %s", path, why), hint: hint}
	}
	if st, err := f.Stat(); err == nil && st.Size() > launch.MaxImage {
		return refuse(fmt.Sprintf("%d MiB, at most %d MiB", st.Size()>>20, launch.MaxImage>>20), "give data as an input (--in), not inside the image")
	}
	b, err := io.ReadAll(io.LimitReader(f, launch.MaxImage+1))
	if err != nil {
		return nil, "", fmt.Errorf("read image: %w", err)
	}
	switch {
	case len(b) == 0:
		return refuse("it is empty", "did the build fail?")
	case bytes.HasPrefix(b, []byte("\x00asm\x01\x00\x00\x00")):
		return b, launch.Wasm, nil
	case bytes.HasPrefix(b, []byte("\x7fELF")):
		return b, launch.ELF, nil
	default:
		return refuse("neither a WebAssembly module nor a Linux executable", "build with GOOS=wasip1 GOARCH=wasm, clang --target=wasm32-wasi, or CGO_ENABLED=0 go build")
	}
}

// create makes the instance on the host.
func (p prepared) create(cmd *cobra.Command, host *client.Host, name string, start bool) (compute.Instance, error) {
	i, err := p.send(cmd, client.CreateRequest{Name: name, Start: start}, host.Create)
	if err != nil {
		return i, fmt.Errorf("create instance: %w", err)
	}
	return i, nil
}

// send sends what is to be launched, with its files.
func (p prepared) send(cmd *cobra.Command, req client.CreateRequest, to func(context.Context, client.CreateRequest, io.Reader, map[string]io.Reader) (compute.Instance, error)) (compute.Instance, error) {
	inputs := map[string]io.Reader{}
	for n, path := range p.inputs {
		f, err := os.Open(path)
		if err != nil {
			return compute.Instance{}, &coded{status: exitUsage, code: "input", err: err}
		}
		defer func() { _ = f.Close() }()
		inputs[n] = f
	}
	req.Spec = p.spec
	return to(cmd.Context(), req, bytes.NewReader(p.image), inputs)
}

// save writes the outputs of an instance that has ended to their files.
func (p prepared) save(cmd *cobra.Command, host *client.Host, name string) error {
	var errs []error
	for output, path := range p.outputs {
		errs = append(errs, saveOutput(cmd, host, name, output, path))
	}
	return errors.Join(errs...)
}

func saveOutput(cmd *cobra.Command, host *client.Host, name, output, path string) error {
	r, err := host.Output(cmd.Context(), name, output)
	if err != nil {
		return fmt.Errorf("output %s: %w", output, err)
	}
	defer func() { _ = r.Close() }()
	return compute.StoreFile(path, r, 1<<40)
}
