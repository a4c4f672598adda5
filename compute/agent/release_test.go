package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/internal/problem"
	"github.com/cloister-cc/cloister/keys"
	"github.com/cloister-cc/cloister/keys/keystest"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/cloister-cc/cloister/tee/software"
	"github.com/cloister-cc/cloister/tee/software/softwaretest"
)

// released is an agent with a real key service for its node; lie changes what
// that answers.
func released(t *testing.T, lie func(*keys.ReleaseResponse)) (*nodeClient, *keys.Service) {
	t.Helper()
	p := softwaretest.New(t)
	image := []byte("image")
	doc := launch.New(launch.Wasm, image)
	doc.Secrets = []launch.Secret{{Name: "data", Key: "app/key"}, {Name: "more", Key: "app/other"}}
	a := newAgent(t, give(nil))
	a.onTEE(t, p, doc, image)
	s := keys.New(keys.Config{
		Verifier: attest.NewVerifier(software.New()), Input: func(tee.Evidence) tee.Input { return tee.Input{Roots: p.Roots} },
		Issue: func(*attest.Verified, [32]byte) (keys.Token, error) { return keys.Token{Text: "token"}, nil },
	})
	if err := new(keystest.Log).Open(s); err != nil {
		t.Fatal(err)
	}
	policy, err := json.Marshal(keys.Policy{Appraisal: attest.Development()})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"app/key", "app/other"} {
		if _, err := s.Import(t.Context(), bytes.Repeat([]byte{'o'}, 32), name, []byte("material of "+name), policy); err != nil {
			t.Fatal(err)
		}
	}
	recipient, private, err := keys.NewRecipient()
	if err != nil {
		t.Fatal(err)
	}
	c := &nodeClient{agent: a, recipient: recipient, private: private}
	c.http = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		w := httptest.NewRecorder()
		if r.URL.Path == "/v1/nonce" {
			nonce, err := s.Nonce()
			_ = json.NewEncoder(w).Encode(map[string][]byte{"nonce": nonce})
			return w.Result(), err
		}
		var req keys.ReleaseRequest
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			return nil, err
		}
		answer, err := s.Release(context.Background(), req)
		if err != nil {
			problem.Write(w, err)
			return w.Result(), nil
		}
		if lie != nil {
			lie(&answer)
		}
		_ = json.NewEncoder(w).Encode(answer)
		return w.Result(), nil
	})}
	return c, s
}

func TestReleaseIntoTheVault(t *testing.T) {
	c, _ := released(t, nil)
	g, err := c.release(false)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"data": "material of app/key", "more": "material of app/other"} {
		got := c.agent.secrets[name]
		if string(got) != want || !bytes.Contains(c.agent.vault.mem, []byte(want)) {
			t.Errorf("secret %s is %q", name, got)
		}
	}
	if e := g.event("ready"); e.Token != "token" || e.Lease == 0 || e.Evidence == nil {
		t.Errorf("%+v", e)
	}
	used := c.agent.vault.used
	if again, err := c.release(true); err != nil || len(again.response.Keys) != 0 || c.agent.vault.used != used {
		t.Errorf("a renewal brings %d keys (%v)", len(again.response.Keys), err)
	}
	c.agent.vault.wipe()
	if got := string(c.agent.secrets["data"]); strings.Trim(got, "\x00") != "" {
		t.Errorf("after the end the secret is %q", got)
	}
}

// A node that gives other keys than it was asked for gives none.
func TestReleaseOfOtherKeys(t *testing.T) {
	for name, lie := range map[string]func(*keys.ReleaseResponse){
		"fewer":            func(r *keys.ReleaseResponse) { r.Keys = r.Keys[:1] },
		"none":             func(r *keys.ReleaseResponse) { r.Keys = nil },
		"more":             func(r *keys.ReleaseResponse) { r.Keys = append(r.Keys, r.Keys[0]) },
		"in another order": func(r *keys.ReleaseResponse) { r.Keys[0], r.Keys[1] = r.Keys[1], r.Keys[0] },
		"under other names": func(r *keys.ReleaseResponse) {
			r.Keys[0].Wrapped, r.Keys[1].Wrapped = r.Keys[1].Wrapped, r.Keys[0].Wrapped
		},
		"altered": func(r *keys.ReleaseResponse) { r.Keys[0].Wrapped[len(r.Keys[0].Wrapped)-1] ^= 1 },
		"cut":     func(r *keys.ReleaseResponse) { r.Keys[0].Wrapped = r.Keys[0].Wrapped[:10] },
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := released(t, lie)
			if _, err := c.release(false); err == nil {
				t.Error("taken")
			}
			if got := c.agent.secrets["data"]; got != nil && name != "fewer" && string(got) != "material of app/key" {
				t.Errorf("the secret is %q", got)
			}
		})
	}
}
