package eventlog

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"unicode/utf16"
)

// Facts are what a log proves once it replays to registers that evidence proves.
// A fact that cannot be told is nil or empty. Each says why it cannot be forged
// by whoever writes the log or extends registers after the boot.
type Facts struct {
	// SecureBoot is whether UEFI Secure Boot was on. Firmware measures the
	// variable SecureBoot, whose contents are 53 fixed bytes, before the first
	// separator of PCR 7 (RTMR0): the digest for "on" must be among the digests
	// there, and neither that for "off" nor that for an empty variable. No label
	// is used, so an event that says "off" cannot be called something else.
	SecureBoot *bool
	// Debug is whether the firmware says that its debugger was enabled: the
	// digest of "UEFI Debug Mode" anywhere in PCR 7 (RTMR0). It can be false
	// although the firmware can be debugged, if the firmware does not say so.
	Debug bool
	// FirmwareVersion is the version that the firmware gives itself, of printable
	// characters: the data of PCR 0's first event, covered by its digest. Nothing
	// can be extended before it. A firmware that measures another text first could
	// have that called its version.
	FirmwareVersion string
	// Technology is what Google's firmware says that memory is protected by:
	// none, sev, sev-es, tdx or sev-snp. It is one of five fixed values before
	// the first separator of PCR 0. A TPM cannot prove it better than the cloud's
	// word: the quote is by the cloud's vTPM, not by the processor.
	Technology string
	// KernelCommandLine is what GRUB started a Linux kernel with; see
	// grubCommandLine for why it stands.
	KernelCommandLine string
	// BootApplications are the Authenticode digests, in hex and in order, of what
	// the firmware and boot loaders started as EFI programs: all digests in PCR 4
	// but those of separators and of the texts that firmware measures between
	// them. As nothing is left out by its label, nothing can hide.
	BootApplications []string
	// Launch is the data of the first event of PCR 15, covered by its digest, which
	// is where a guest of ours says what it launches: nothing can be extended before
	// it. What is in it is as true as the guest that measured it is good, which PCR
	// 0 to 9 say. It is no claim by itself.
	Launch []byte
}

// LaunchRegister is the PCR into which a guest measures what it launches.
const LaunchRegister = 15

// Claims are the facts that can be told, under snake_case names, as bool, string
// and []any: secure_boot, uefi_debug_mode, boot_firmware_version, gce_technology,
// kernel_command_line, boot_applications.
func (f *Facts) Claims() map[string]any {
	claims := map[string]any{"uefi_debug_mode": f.Debug}
	if f.SecureBoot != nil {
		claims["secure_boot"] = *f.SecureBoot
	}
	for name, s := range map[string]string{"boot_firmware_version": f.FirmwareVersion, "gce_technology": f.Technology, "kernel_command_line": f.KernelCommandLine} {
		if s != "" {
			claims[name] = s
		}
	}
	if len(f.BootApplications) > 0 {
		list := make([]any, len(f.BootApplications))
		for i, d := range f.BootApplications {
			list[i] = d
		}
		claims["boot_applications"] = list
	}
	return claims
}

// maxText bounds texts that become claims, in bytes.
const maxText = 4 << 10

// facts looks only at registers that are proven.
func (l *Log) facts(a Algorithm, proven map[uint32]bool) *Facts {
	v := &view{log: l, algorithm: a, events: make(map[uint32][]*Event)}
	for i := range l.Events {
		if e := &l.Events[i]; e.Type != TypeNoAction && proven[e.Register] {
			v.events[e.Register] = append(v.events[e.Register], e)
		}
	}
	settings := uint32(7)
	if l.Registers == RTMRs {
		settings = RTMR(0)
	}
	f := &Facts{SecureBoot: v.secureBoot(settings), Debug: v.index(v.events[settings], []byte("UEFI Debug Mode")) >= 0}
	if l.Registers == PCRs {
		f.FirmwareVersion = v.firmwareVersion()
		f.Technology = v.technology()
		f.KernelCommandLine = v.grubCommandLine()
		f.BootApplications = v.bootApplications()
		if events := v.events[LaunchRegister]; len(events) > 0 && events[0].Covered(a) {
			f.Launch = events[0].Data
		}
	}
	return f
}

// view is the proven part of a log as one algorithm sees it.
type view struct {
	log       *Log
	algorithm Algorithm
	events    map[uint32][]*Event // that were measured, by register
}

// index is where the first event with the digest of data is, -1 if nowhere.
func (v *view) index(events []*Event, data []byte) int {
	want := v.algorithm.Sum(data)
	return slices.IndexFunc(events, func(e *Event) bool { return bytes.Equal(e.Digest(v.algorithm), want) })
}

// separators are the only data that a separator has (PFP section 10.4.1).
func separators() [][]byte { return [][]byte{{0, 0, 0, 0}, {0xFF, 0xFF, 0xFF, 0xFF}} }

// firmware returns the events before a register's first separator: those that
// firmware measured before it started anything else. Without a separator there
// are none that are known to be so.
func (v *view) firmware(register uint32) []*Event {
	events := v.events[register]
	end := -1
	for _, s := range separators() {
		if i := v.index(events, s); i >= 0 && (end < 0 || i < end) {
			end = i
		}
	}
	return events[:max(end, 0)]
}

// secureBootVariable is UEFI_VARIABLE_DATA (PFP section 10.4.2.6) of the variable
// SecureBoot of the EFI global GUID 8be4df61-93ca-11d2-aa0d-00e098032b8c.
func secureBootVariable(value ...byte) []byte {
	const name = "SecureBoot"
	b := []byte{0x61, 0xDF, 0xE4, 0x8B, 0xCA, 0x93, 0xD2, 0x11, 0xAA, 0x0D, 0x00, 0xE0, 0x98, 0x03, 0x2B, 0x8C}
	b = binary.LittleEndian.AppendUint64(b, uint64(len(name)))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
	for _, c := range []byte(name) {
		b = append(b, c, 0)
	}
	return append(b, value...)
}

func (v *view) secureBoot(register uint32) *bool {
	events := v.firmware(register)
	on := v.index(events, secureBootVariable(1)) >= 0
	off := v.index(events, secureBootVariable(0)) >= 0 || v.index(events, secureBootVariable()) >= 0
	if on == off { // neither was measured, or both
		return nil
	}
	return &on
}

func (v *view) firmwareVersion() string {
	events := v.firmware(0)
	if len(events) == 0 || events[0].Type != TypeCRTMVersion || len(events[0].Data) > maxText || !events[0].Covered(v.algorithm) {
		return ""
	}
	return printable(decodeUTF16(events[0].Data))
}

// decodeUTF16 reads little-endian UTF-16 up to a null.
func decodeUTF16(b []byte) string {
	var units []uint16
	for ; len(b) >= 2; b = b[2:] {
		u := binary.LittleEndian.Uint16(b)
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units))
}

// printable is s if it has nothing but printable ASCII, else "".
func printable(s string) string {
	for _, c := range []byte(s) {
		if c < 0x20 || c > 0x7E {
			return ""
		}
	}
	return s
}

// technologies are the values in Google's non-host information, by their number.
func technologies() []string { return []string{"none", "sev", "sev-es", "tdx", "sev-snp"} }

// nonHostInfo is what Google's firmware measures into PCR 0: a name, the
// technology and 15 zeroes.
func nonHostInfo(technology byte) []byte {
	return append(append([]byte("GCE NonHostInfo\x00"), technology), make([]byte, 15)...)
}

func (v *view) technology() string {
	found := ""
	for i, name := range technologies() {
		if v.index(v.firmware(0), nonHostInfo(byte(i))) >= 0 {
			if found != "" {
				return "" // two cannot be true
			}
			found = name
		}
	}
	return found
}

// firmwareTexts are measured into PCR 4 around the start of programs (PFP
// section 8.2.4 and 10.4.4).
func firmwareTexts() []string {
	return []string{
		"Calling EFI Application from Boot Option", "Returning from EFI Application from Boot Option",
		"Calling INT 19h", "Returned INT 19h", "Returned via INT 18h", "Entering ROM Based Setup", "Booting to",
	}
}

func (v *view) bootApplications() []string {
	skip := make(map[string]bool)
	for _, s := range separators() {
		skip[string(v.algorithm.Sum(s))] = true
	}
	for _, s := range firmwareTexts() {
		skip[string(v.algorithm.Sum([]byte(s)))] = true
	}
	var out []string
	for _, e := range v.events[4] {
		if d := e.Digest(v.algorithm); !skip[string(d)] {
			out = append(out, hex.EncodeToString(d))
		}
	}
	return out
}
