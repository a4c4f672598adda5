package eventlog

import (
	"bytes"
	"strings"
)

// grubRegister is the PCR that GRUB measures its commands and the command lines
// of kernels into; what it reads from files goes into PCR 9.
const grubRegister = 8

// grubText returns what the digest of one of GRUB's events covers: the text after
// the first label and before the null at its end. The label itself ("grub_cmd: ",
// "kernel_cmdline: ") is not covered.
func (v *view) grubText(e *Event) (label, text string, covered bool) {
	data := bytes.TrimSuffix(e.Data, []byte{0})
	before, after, found := bytes.Cut(data, []byte(": "))
	if !found || !bytes.Equal(v.algorithm.Sum(after), e.Digest(v.algorithm)) {
		return "", "", false
	}
	return string(before), string(after), true
}

// grubCommandLine returns the command line of the kernel that GRUB started, where
// that can be told beyond doubt. As labels are not covered, somebody could call
// the real command line a command, and let the guest measure a pleasant one
// later. So it stands only if the whole register is covered text, exactly one of
// the texts is a command that starts a kernel, and the command line is what that
// command says: a real one cannot hide, because its "linux …" is among the texts.
// RTMR2 has digests of files between the texts, which could hide one, so logs of
// TDs have no such fact.
func (v *view) grubCommandLine() string {
	var command, line string
	commands, lines := 0, 0
	for _, e := range v.events[grubRegister] {
		label, text, ok := v.grubText(e)
		if !ok {
			return ""
		}
		if startsKernel(text) {
			commands++
			command = text
		}
		if label == "kernel_cmdline" {
			lines++
			line = text
		}
	}
	if commands != 1 || lines != 1 || line == "" || len(line) > maxText || printable(line) == "" {
		return ""
	}
	if _, args, _ := strings.Cut(command, " "); unquoted(args) != unquoted(line) {
		return ""
	}
	return line
}

// unquoted leaves out what GRUB adds around arguments with spaces when it makes
// a command line of a command.
func unquoted(s string) string { return strings.NewReplacer(`"`, "", `\`, "").Replace(s) }

// startsKernel reports whether a command of GRUB starts something. Setting a
// variable ("linux_gfx_mode=keep") does not, whatever it is called.
func startsKernel(text string) bool {
	name, _, _ := strings.Cut(text, " ")
	if strings.Contains(name, "=") {
		return false
	}
	for _, prefix := range []string{"linux", "multiboot", "chainloader", "kfreebsd", "knetbsd", "kopenbsd", "xnu_", "xen_", "ntldr", "plan9", "truecrypt", "legacy_kernel",
		"freedos", //nolint:misspell // the name of a system
	} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
