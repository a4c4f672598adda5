package eventlog_test

import (
	"bytes"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/eventlog"
	"github.com/google/go-cmp/cmp"
)

func version(s string) eventlog.Event {
	var b []byte
	for _, c := range []byte(s + "\x00") {
		b = append(b, c, 0)
	}
	return measured(0, eventlog.TypeCRTMVersion, b)
}

func technology(n byte) eventlog.Event {
	return measured(0, eventlog.TypeNonHostInfo, append(append([]byte("GCE NonHostInfo\x00"), n), make([]byte, 15)...))
}

func sb(value ...byte) eventlog.Event {
	return measured(7, eventlog.TypeVariableConfig, secureBoot(value...))
}

// TestFacts has logs of honest boots and logs of liars. None of these logs has a
// digest that differs from what the registers hold; the liar chooses types, data
// and what the guest extends after the boot.
func TestFacts(t *testing.T) {
	const line = "/vmlinuz root=/dev/sda"
	command := grub("grub_cmd", "linux "+line)
	real := grub("kernel_cmdline", line)
	cases := []struct {
		name   string
		events []eventlog.Event
		want   map[string]any
	}{
		{"nothing", nil, map[string]any{}},
		{"secure boot on", []eventlog.Event{sb(1), separator(7)}, map[string]any{"secure_boot": true}},
		{"secure boot off", []eventlog.Event{sb(0), separator(7)}, map[string]any{"secure_boot": false}},
		{"secure boot absent", []eventlog.Event{sb(), separator(7)}, map[string]any{"secure_boot": false}},
		{"no separator yet", []eventlog.Event{sb(1)}, map[string]any{}},
		{"error separator", []eventlog.Event{sb(1), measured(7, eventlog.TypeSeparator, []byte{0xff, 0xff, 0xff, 0xff})}, map[string]any{"secure_boot": true}},
		{"liar: extended after the boot", []eventlog.Event{separator(7), sb(1)}, map[string]any{}},
		{"liar: and a separator after it", []eventlog.Event{opaque(7, eventlog.TypeAction, "", make([]byte, 4)), sb(1), separator(7)}, map[string]any{}},
		{"liar: off is called something else", []eventlog.Event{opaque(7, eventlog.TypeIPL, "nothing", secureBoot(0)), sb(1), separator(7)}, map[string]any{}},
		{"liar: data says on, digest off", []eventlog.Event{opaque(7, eventlog.TypeVariableConfig, string(secureBoot(1)), secureBoot(0)), separator(7)}, map[string]any{"secure_boot": false}},
		{"liar: data says on, digest nothing", []eventlog.Event{opaque(7, eventlog.TypeVariableConfig, string(secureBoot(1)), []byte("x")), separator(7)}, map[string]any{}},
		{"liar: other register", []eventlog.Event{measured(6, eventlog.TypeVariableConfig, secureBoot(1)), separator(6)}, map[string]any{}},
		{"debugger", []eventlog.Event{measured(7, eventlog.TypeAction, []byte("UEFI Debug Mode")), sb(1), separator(7)}, map[string]any{"secure_boot": true, "uefi_debug_mode": true}},
		{"liar: debugger called something else", []eventlog.Event{opaque(7, eventlog.TypeIPL, "", []byte("UEFI Debug Mode")), separator(7)}, map[string]any{"uefi_debug_mode": true}},
		{"firmware version", []eventlog.Event{version("v1"), separator(0)}, map[string]any{"boot_firmware_version": "v1"}},
		{"liar: version not first", []eventlog.Event{opaque(0, eventlog.TypeCRTMVersion, "", []byte("y")), version("v1"), separator(0)}, map[string]any{}},
		{"liar: version not covered", []eventlog.Event{opaque(0, eventlog.TypeCRTMVersion, "v\x001\x00", []byte("y")), separator(0)}, map[string]any{}},
		{"version of other characters", []eventlog.Event{version("v\n1"), separator(0)}, map[string]any{}},
		{"technology", []eventlog.Event{technology(4), separator(0)}, map[string]any{"gce_technology": "sev-snp"}},
		{"technology that is not known", []eventlog.Event{technology(5), separator(0)}, map[string]any{}},
		{"two technologies", []eventlog.Event{technology(0), technology(4), separator(0)}, map[string]any{}},
		{"liar: technology after the boot", []eventlog.Event{technology(0), separator(0), technology(4)}, map[string]any{"gce_technology": "none"}},
		{"kernel", []eventlog.Event{grub("grub_cmd", "set default=0"), grub("grub_cmd", "linux_gfx_mode=keep"), command, real}, map[string]any{"kernel_command_line": line}},
		{"kernel with quotes", []eventlog.Event{grub("grub_cmd", "linux /v dm=1 vroot"), grub("kernel_cmdline", `/v "dm=1 vroot"`)}, map[string]any{"kernel_command_line": `/v "dm=1 vroot"`}},
		{"liar: real one hidden", []eventlog.Event{grub("grub_cmd", "linux /evil"), opaque(8, eventlog.TypeIPL, "grub_cmd: set x\x00", []byte("/evil")), command, real}, map[string]any{}},
		{"liar: real one called a command", []eventlog.Event{grub("grub_cmd", "linux /evil"), grub("grub_cmd", "/evil"), command, real}, map[string]any{}},
		{"liar: command only", []eventlog.Event{grub("grub_cmd", "linux /evil"), grub("grub_cmd", "/evil"), real}, map[string]any{}},
		{"liar: other label", []eventlog.Event{grub("kernel_cmdline", "linux "+line)}, map[string]any{}},
		{"liar: no command", []eventlog.Event{real}, map[string]any{}},
		{"chain loaded", []eventlog.Event{grub("grub_cmd", "chainloader /evil.efi"), command, real}, map[string]any{}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if _, ok := c.want["uefi_debug_mode"]; !ok {
				c.want["uefi_debug_mode"] = false
			}
			if diff := cmp.Diff(c.want, facts(t, agile(t, c.events...))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestBootApplications(t *testing.T) {
	l := agile(t, measured(4, eventlog.TypeAction, []byte("Calling EFI Application from Boot Option")), separator(4),
		opaque(4, eventlog.TypeBootApplication, "path", []byte("shim")),
		// A liar may call a program what he likes; its digest stays in the list.
		opaque(4, eventlog.TypeAction, "Calling EFI Application from Boot Option", []byte("evil")),
		measured(4, eventlog.TypeAction, []byte("the bytes of a small program")))
	if list, _ := facts(t, l)["boot_applications"].([]any); len(list) != 3 {
		t.Errorf("%v, want three", list)
	}
}

// TestOnlyProvenRegistersCount gives all but one register.
func TestOnlyProvenRegistersCount(t *testing.T) {
	l := agile(t, version("v1"), separator(0), sb(1), separator(7))
	all, err := l.Replay(eventlog.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	delete(all, 7)
	all[9] = make([]byte, 32) // without events in the log, so of no interest
	f, failures := l.Verify(eventlog.SHA256, all)
	if len(failures) > 0 || f.SecureBoot != nil || f.FirmwareVersion != "v1" {
		t.Errorf("facts %+v, failures %v", f, failures)
	}
	if f, failures := l.Verify(eventlog.SHA256, nil); len(failures) > 0 || len(f.Claims()) != 1 {
		t.Errorf("facts %+v, failures %v of registers that nobody proved", f, failures)
	}
	if f, failures := l.Verify(eventlog.SHA256, map[uint32][]byte{7: nil}); f != nil || len(failures) != 1 {
		t.Errorf("facts %+v, failures %v for an empty register", f, failures)
	}
	if f, failures := l.Verify(0x12, all); f != nil || len(failures) != 1 || failures[0].Code != tee.CodeUnsupported {
		t.Errorf("facts %+v, failures %v for an algorithm that is not there", f, failures)
	}
}

func TestStartupLocality(t *testing.T) {
	start := func(register uint32, data string) eventlog.Event {
		return measured(register, eventlog.TypeNoAction, []byte(data))
	}
	plain, err := agile(t, separator(0)).Replay(eventlog.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		events []eventlog.Event
		same   bool
		code   tee.Code
	}{
		"locality 0":     {[]eventlog.Event{start(0, "StartupLocality\x00\x00"), separator(0)}, true, ""},
		"locality 3":     {[]eventlog.Event{start(0, "StartupLocality\x00\x03"), separator(0)}, false, ""},
		"other register": {[]eventlog.Event{start(1, "StartupLocality\x00\x03"), separator(0)}, true, ""},
		"other text":     {[]eventlog.Event{start(0, "StartupLocality"), separator(0)}, true, ""},
		"late":           {[]eventlog.Event{separator(0), start(0, "StartupLocality\x00\x03")}, false, tee.CodeEventLog},
		"twice":          {[]eventlog.Event{start(0, "StartupLocality\x00\x03"), start(0, "StartupLocality\x00\x03")}, false, tee.CodeEventLog},
		"none":           {[]eventlog.Event{start(0, "StartupLocality\x00\x05"), separator(0)}, false, tee.CodeEventLog},
		"long":           {[]eventlog.Event{start(0, "StartupLocality\x00\x03\x00"), separator(0)}, false, tee.CodeEventLog},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := agile(t, c.events...).Replay(eventlog.SHA256)
			if c.code != "" {
				wantCode(t, err, c.code)
				return
			}
			if err != nil || bytes.Equal(got[0], plain[0]) != c.same {
				t.Errorf("PCR 0 %x, plain %x, error %v", got[0], plain[0], err)
			}
		})
	}
}
