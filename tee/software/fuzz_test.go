//go:build linux

package software

import (
	"bytes"
	"crypto/sha256"
	"io"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"pgregory.net/rapid"
)

func FuzzVerify(f *testing.F) {
	p := newPlatform(f)
	good, err := start(f, p, testDocument(), nil).Evidence(f.Context(), [64]byte{1})
	if err != nil {
		f.Fatal(err)
	}
	in, v := inputFor(f, p), New()
	f.Add(good.Data)
	f.Add([]byte{0xd2, 0x84, 0x40, 0xa0, 0x40, 0x40})
	f.Fuzz(func(t *testing.T, b []byte) {
		v.Detect(b)
		c, _, err := v.Verify(tee.Evidence{Kind: tee.Software, Data: b}, in)
		if err != nil {
			return
		}
		// The fuzzer has no key; only the signature's twin (r, n-s) can differ.
		if !c.Simulated || c.TEE != tee.Software || !bytes.Equal(b[:len(b)-sizeSignature], good.Data[:len(good.Data)-sizeSignature]) {
			t.Fatalf("forged: %+v", c)
		}
	})
}

func FuzzParse(f *testing.F) {
	p := newPlatform(f)
	good, err := start(f, p, testDocument(), nil).Evidence(f.Context(), [64]byte{1})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good.Data)
	f.Fuzz(func(t *testing.T, b []byte) {
		got, failure := parseEvidence(b)
		if failure != nil {
			return
		}
		if !got.claims.Simulated || got.claims.Profile != Profile {
			t.Fatalf("accepted claims %+v", got.claims)
		}
		s, err := parseSign1(b)
		if err != nil {
			t.Fatal(err)
		}
		again, err := encode(s)
		if err != nil || !bytes.Equal(again, b[1:]) {
			t.Fatalf("accepted bytes are not canonical: %v", err)
		}
		checkClaims(got.claims, [32]byte{})
		verifyChain(got.certificate, tee.Roots{}, time.Unix(1, 0))
	})
}

func FuzzDeviceCall(f *testing.F) {
	in := start(f, newPlatform(f), testDocument(), nil)
	for _, c := range []struct {
		op   string
		body any
	}{
		{opInfo, nothing{}}, {opEvidence, evidenceCall{}}, {opSealingKey, sealingKeyCall{To: "measurement"}}, {opRead, readCall{scopeMeasurement, "c"}},
		{opAdvance, advanceCall{Scope: scopeSigner, Name: "c"}}, {opSetSandbox, sandboxCall{[]string{"a"}, nil}},
	} {
		f.Add(must(encodeCall(c.op, c.body)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		result, err := in.answer(t.Context(), b)
		reply, err := encodeAnswer(result, err)
		if err != nil || len(reply) > maxFrame {
			t.Fatalf("answer of %d bytes: %v", len(reply), err)
		}
	})
}

func FuzzLaunchCall(f *testing.F) {
	p := newPlatform(f)
	image := fileOf(f, testImage)
	f.Add(must(encodeCall(opPlatform, nothing{})))
	f.Add(must(encodeCall(opLaunch, launchCall{Document: requestFor(f, testDocument(), nil).Document, InstanceID: "i"})))
	f.Fuzz(func(t *testing.T, b []byte) {
		result, device, err := p.answerCall(t.Context(), b, image)
		if (device != nil) && err != nil {
			t.Fatal("a device beside an error")
		}
		if device != nil {
			device.Close()
		}
		if reply, err := encodeAnswer(result, err); err != nil || len(reply) > maxFrame {
			t.Fatalf("answer of %d bytes: %v", len(reply), err)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add(must(encodeAnswer(infoAnswer{InstanceID: "i"}, nil)))
	f.Add(must(encodeAnswer(nil, goneError("x"))))
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, err := decodeAnswer[infoAnswer](b, "test"); err != nil && a.InstanceID != "" {
			t.Fatal("a result beside an error")
		}
	})
}

func FuzzFrame(f *testing.F) {
	f.Add(frame([]byte{1}))
	f.Add([]byte{0, 1, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		body, err := readFrame(bytes.NewReader(b))
		if err == nil && (len(body) == 0 || len(body) > maxFrame || !bytes.HasPrefix(b, frame(body))) {
			t.Fatalf("frame of %d bytes", len(body))
		}
		if len(b) == 0 && err != io.EOF {
			t.Fatalf("empty stream: %v", err)
		}
	})
}

func FuzzFuses(f *testing.F) {
	fuses := must(newFuses(time.Now()))
	f.Add(must(encode(fuses)))
	f.Fuzz(func(t *testing.T, b []byte) {
		parseFuses(b)
		file := must(encode(checked{Body: b, Digest: sha256.Sum256(b)})) // past the checksum
		if got, err := parseFuses(file); err == nil && (got.platformKey == nil || len(got.Secret) != 32) {
			t.Fatal("accepted fuses without keys")
		}
	})
}

func FuzzCounterFile(f *testing.F) {
	key := make([]byte, 32)
	f.Add(must(encode(counterBody{Version: 1, Generation: 3, Counters: []counterRecord{{Name: "c", Value: 1}}})))
	f.Fuzz(func(t *testing.T, b []byte) {
		parseCounters(b, key)
		file := must(encode(maced{Body: b, MAC: macOf(key, b)})) // past the MAC
		table, mac, err := parseCounters(file, key)
		if err != nil {
			return
		}
		again, macAgain, err := encodeCounters(table, key)
		if err != nil || mac != macAgain || !bytes.Equal(again, file) {
			t.Fatalf("accepted bytes are not canonical: %v", err)
		}
	})
}

func FuzzAnchor(f *testing.F) {
	key := make([]byte, 32)
	f.Add(anchor{1, [32]byte{1}}.encode(key), anchor{2, [32]byte{2}}.encode(key))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		parseAnchor(a, key)
		file := make([]byte, anchorSize)
		copy(file[:slotStride], a)
		copy(file[slotStride:], b)
		if got, err := parseAnchor(file, key); err == nil && !bytes.Equal(got.encode(key), file[got.slot():got.slot()+slotSize]) {
			t.Fatalf("accepted %+v", got)
		}
	})
}

func TestCounterFileRoundTrip(t *testing.T) {
	key := bytes.Repeat([]byte{7}, 32)
	rapid.Check(t, func(t *rapid.T) {
		want := counterTable{generation: rapid.Uint64().Draw(t, "generation"), counters: make(map[counterKey]counterValue)}
		for range rapid.IntRange(0, 20).Draw(t, "n") {
			k := counterKey{[32]byte{rapid.Byte().Draw(t, "owner")}, rapid.StringMatching(`[!-~]{1,20}`).Draw(t, "name")}
			want.counters[k] = counterValue{rapid.Uint64Min(1).Draw(t, "value"), [32]byte{rapid.Byte().Draw(t, "digest")}}
		}
		file, mac, err := encodeCounters(want, key)
		if err != nil {
			t.Fatal(err)
		}
		got, macAgain, err := parseCounters(file, key)
		if err != nil || mac != macAgain || got.generation != want.generation || len(got.counters) != len(want.counters) {
			t.Fatal(err)
		}
		for k, v := range want.counters {
			if got.counters[k] != v {
				t.Fatalf("counter %v: %v, want %v", k, got.counters[k], v)
			}
		}
	})
}
