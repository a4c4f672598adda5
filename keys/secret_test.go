package keys_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/keys"
	"pgregory.net/rapid"
)

const plain = "correct horse battery staple"

// leaks are the forms in which a secret is known to get out.
func leaks() []string {
	return []string{plain, hex.EncodeToString([]byte(plain)), strings.ToUpper(hex.EncodeToString([]byte(plain))), "99 111 114", "Y29ycmVjdC", "0x63"}
}

func wantHidden(t *testing.T, how, out string) {
	t.Helper()
	for _, l := range leaks() {
		if strings.Contains(out, l) {
			t.Errorf("%s prints %q", how, out)
		}
	}
	if !strings.Contains(out, "[redacted]") {
		t.Errorf("%s prints %q, want [redacted]", how, out)
	}
}

func TestSecretIsNotPrinted(t *testing.T) {
	type holder struct {
		Name string
		Key  keys.Secret
	}
	s := keys.Secret(plain)
	values := map[string]any{
		"secret": s, "pointer": &s, "struct": holder{"n", s}, "pointer to struct": &holder{"n", s},
		"slice": []keys.Secret{s}, "map": map[string]keys.Secret{"k": s}, "any": []any{s},
	}
	for name, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%#x", "%d", "%o", "%b", "%c", "%U", "%10.3s"} {
			wantHidden(t, name+" "+verb, fmt.Sprintf(verb, v))
		}
		wantHidden(t, name+" as JSON", string(must(json.Marshal(v))))
		for form, handler := range map[string]func(*bytes.Buffer) slog.Handler{
			"text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
			"JSON": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
		} {
			var b bytes.Buffer
			slog.New(handler(&b)).Info("message", slog.Any("value", v))
			wantHidden(t, name+" as slog "+form, b.String())
		}
	}
	wantHidden(t, "Print", fmt.Sprint(s))
	wantHidden(t, "Println", fmt.Sprintln("a", s))
	wantHidden(t, "an error", fmt.Errorf("open %v: %w", s, keys.ErrInvalid).Error())
	wantHidden(t, "String", s.String())
	wantHidden(t, "GoString", s.GoString())
	wantHidden(t, "LogValue", s.LogValue().String())
}

func TestUnwrap(t *testing.T) {
	w := newWorld(t)
	w.imported(t, "k", nil)
	a := w.ask(t, "k")
	good := must(w.release(t, a)).Keys[0]
	if got := must(keys.Unwrap(a.private, a.Nonce, good)); string(got) != "material of k" {
		t.Fatalf("unwrapped %q", got)
	}
	_, other, err := keys.NewRecipient()
	if err != nil {
		t.Fatal(err)
	}
	renamed, cut, empty, longer := good, good, good, good
	renamed.Name = "l"
	cut.Wrapped = good.Wrapped[:len(good.Wrapped)-1]
	empty.Wrapped = nil
	longer.Wrapped = append(bytes.Clone(good.Wrapped), 0)
	for name, c := range map[string]struct {
		private, nonce []byte
		key            keys.WrappedKey
	}{
		"another recipient": {other, a.Nonce, good}, "another nonce": {a.private, make([]byte, 32), good}, "no nonce": {a.private, nil, good},
		"another name": {a.private, a.Nonce, renamed}, "truncated": {a.private, a.Nonce, cut}, "empty": {a.private, a.Nonce, empty},
		"longer": {a.private, a.Nonce, longer}, "no private key": {nil, a.Nonce, good}, "half a private key": {a.private[:16], a.Nonce, good},
	} {
		if got, err := keys.Unwrap(c.private, c.nonce, c.key); err == nil || got != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		bad := good
		bad.Wrapped = bytes.Clone(good.Wrapped)
		bad.Wrapped[rapid.IntRange(0, len(bad.Wrapped)-1).Draw(t, "at")] ^= byte(rapid.IntRange(1, 255).Draw(t, "mask"))
		if _, err := keys.Unwrap(a.private, a.Nonce, bad); err == nil {
			t.Fatal("accepted")
		}
	})
}
