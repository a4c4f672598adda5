package eventlog_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/eventlog"
)

// TestUbuntu replays the log of a real SEV-SNP machine of Google. The values are
// of an independent reader of the same file.
func TestUbuntu(t *testing.T) {
	b := vector(t, "tpm-eventlog-snp-ubuntu/eventlog.bin")
	l, err := eventlog.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if !l.Agile || len(l.Events) != 116 || len(l.Algorithms) != 3 {
		t.Fatalf("agile %t, %d events, algorithms %v", l.Agile, len(l.Events), l.Algorithms)
	}
	claims := facts(t, l)
	if claims["secure_boot"] != false || claims["gce_technology"] != "sev-snp" || claims["boot_firmware_version"] != "GCE Virtual Firmware v2" || claims["uefi_debug_mode"] != false {
		t.Errorf("claims %v", claims)
	}
	if line, _ := claims["kernel_command_line"].(string); !strings.HasPrefix(line, "/vmlinuz-6.8.0-1010-gcp root=PARTUUID=8270f3c9") {
		t.Errorf("command line %q", line)
	}
	if list, _ := claims["boot_applications"].([]any); len(list) != 2 {
		t.Errorf("boot applications %v", list)
	}
	// The header of the file has no bytes of a vendor, so that writing it again
	// gives the same bytes.
	if !bytes.Equal(l.Encode(), b) {
		t.Error("writing the log again gives another one")
	}
}

// TestCCEL replays the log of a real TD to the RTMRs in its quote, which stand at
// fixed places of a quote of version 4.
func TestCCEL(t *testing.T) {
	b, quote := vector(t, "tdx4-gcp-cos113/ccel_data.bin"), vector(t, "tdx4-gcp-cos113/quote.bin")
	l, err := eventlog.ParseCCEL(b)
	if err != nil {
		t.Fatal(err)
	}
	rtmrs := make(map[uint32][]byte)
	for i := range 4 {
		rtmrs[eventlog.RTMR(i)] = quote[48+328+48*i:][:48]
	}
	f, failures := l.Verify(eventlog.SHA384, rtmrs)
	if len(failures) > 0 {
		t.Fatal(failures)
	}
	if c := f.Claims(); c["secure_boot"] != false || c["uefi_debug_mode"] != false {
		t.Errorf("claims %v", c)
	}
	rtmrs[eventlog.RTMR(2)] = make([]byte, 48)
	f, failures = l.Verify(eventlog.SHA384, rtmrs)
	if f != nil || len(failures) != 1 || failures[0].Code != tee.CodeEventLog || failures[0].Claim != "rtmr 2" {
		t.Errorf("facts %v, failures %v for another RTMR 2", f, failures)
	}
}

// TestWindows replays a log of the old format to the PCRs beside it.
func TestWindows(t *testing.T) {
	var dump struct {
		Log struct {
			Raw  []byte
			PCRs []struct {
				Index     uint32
				Digest    []byte
				DigestAlg int
			}
		}
	}
	if err := json.Unmarshal(vector(t, "tpm-windows-gcp/dump.json"), &dump); err != nil {
		t.Fatal(err)
	}
	l, err := eventlog.Parse(dump.Log.Raw)
	if err != nil {
		t.Fatal(err)
	}
	pcrs := make(map[uint32][]byte)
	for _, p := range dump.Log.PCRs {
		pcrs[p.Index] = p.Digest
	}
	f, failures := l.Verify(eventlog.SHA1, pcrs)
	if len(failures) > 0 {
		t.Fatal(failures)
	}
	if l.Agile || f.SecureBoot == nil || !*f.SecureBoot {
		t.Errorf("agile %t, facts %+v", l.Agile, f)
	}
	if _, err := l.Replay(eventlog.SHA256); err == nil {
		t.Error("replayed digests that are not there")
	}
}

// TestNothingReplaysByAccident changes single bytes of a real log and wants the
// facts to be those of the register values, or none: never others.
func TestNothingReplaysByAccident(t *testing.T) {
	b := vector(t, "tpm-eventlog-snp-ubuntu/eventlog.bin")
	l, err := eventlog.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	proven, err := l.Replay(eventlog.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	want := facts(t, l)
	for at := 0; at < len(b); at += 4 { // one in four: 11,325 logs
		altered := bytes.Clone(b)
		altered[at] ^= 0x04
		l, err := eventlog.Parse(altered)
		if err != nil {
			continue
		}
		f, failures := l.Verify(eventlog.SHA256, proven)
		if len(failures) > 0 {
			continue
		}
		for name, got := range f.Claims() {
			if w, ok := want[name]; !ok || !sameClaim(t, w, got) {
				t.Fatalf("byte %#x makes %s %v, and it is %v (log %s…)", at, name, got, w, hex.EncodeToString(altered[:8]))
			}
		}
	}
}

func sameClaim(t *testing.T, a, b any) bool {
	t.Helper()
	x, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(x, y)
}
