package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/enclave/call"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/cloister-cc/cloister/tee/software/softwaretest"
)

// A node whose state can no longer be kept ends, and says why: what it has in
// memory may be ahead of what is durable.
func TestNodeEndsWithItsLog(t *testing.T) {
	w := run(t, nil) // on its real log
	n := w.client(identity(t))
	if _, err := n.PutKey(t.Context(), client.PutKey{Name: "app/before", Policy: policy(t, nil)}); err != nil {
		t.Fatal(err)
	}
	w.agent.fail.Store(&tee.Error{Code: tee.CodeUnavailable, Op: "advance counter"})
	_, err := n.PutKey(t.Context(), client.PutKey{Name: "app/during", Policy: policy(t, nil)})
	if p := wantCode(t, err, http.StatusServiceUnavailable, "unavailable"); !strings.Contains(p.Hint, "by itself") {
		t.Errorf("hint %q", p.Hint)
	}
	err = <-w.ended
	coded, ok := errors.AsType[*tee.Error](err)
	if !ok || coded.Code != compute.CodeDisk || coded.Hint == "" || !errors.Is(err, &tee.Error{Code: tee.CodeUnavailable}) {
		t.Errorf("the node ended with %v, want code disk and the cause", err)
	}
}

func TestNodeEndsInGoodOrder(t *testing.T) {
	w := run(t, nil)
	if _, err := w.client(nil).Nonce(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.end(nil)
	if err := <-w.ended; err != nil {
		t.Errorf("told to end, it ended with %v", err)
	}
}

// again opens the state in dir with a new instance of a document on a platform.
func again(t *testing.T, p *softwaretest.Platform, doc launch.Document) (*service, error) {
	t.Helper()
	e, _ := enter(t, p, doc)
	ctx, end := context.WithCancelCause(t.Context())
	s, err := open(ctx, e, end, slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		end(nil)
		if s != nil {
			s.close()
		}
	})
	return s, err
}

func TestRestart(t *testing.T) {
	p, dir := softwaretest.New(t), t.TempDir()
	t.Setenv(call.EnvState, dir)
	node := launch.NewBuiltin(launch.RoleNode)
	first, err := again(t, p, node)
	if err != nil {
		t.Fatal(err)
	}
	owner := bytes.Repeat([]byte{'a'}, 32)
	if _, err := first.keys.Create(t.Context(), owner, "app/key", 0, policy(t, nil)); err != nil {
		t.Fatal(err)
	}
	first.close()
	second, err := again(t, p, node)
	if err != nil {
		t.Fatal(err)
	}
	if k, err := second.keys.Get(owner, "app/key"); err != nil || k.Version != 1 {
		t.Errorf("%+v, %v", k, err)
	}
	if !bytes.Equal(first.spki, second.spki) {
		t.Error("the node has another service key after a restart")
	}
	second.close()

	// Nothing of it is readable outside, and other code cannot open it.
	for _, name := range []string{serviceKeyFile, "state.log"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || bytes.Contains(b, []byte("app/key")) || len(b) == 0 {
			t.Errorf("%s holds %d bytes (%v), in clear: %v", name, len(b), err, bytes.Contains(b, []byte("app/key")))
		}
	}
	_, err = again(t, p, launch.New(launch.Wasm, []byte("image")))
	if e, ok := errors.AsType[*tee.Error](err); !ok || e.Code != tee.CodeSealed || !strings.Contains(e.Hint, "--data-dir") {
		t.Errorf("another build: %v", err)
	}
}

func TestAlteredStateIsRefused(t *testing.T) {
	for _, name := range []string{serviceKeyFile, "state.log"} {
		t.Run(name, func(t *testing.T) {
			p, dir := softwaretest.New(t), t.TempDir()
			t.Setenv(call.EnvState, dir)
			s, err := again(t, p, launch.NewBuiltin(launch.RoleNode))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.keys.Create(t.Context(), bytes.Repeat([]byte{'a'}, 32), "app/key", 0, policy(t, nil)); err != nil {
				t.Fatal(err)
			}
			_ = s.log.Close()
			path := filepath.Join(dir, name)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)/2] ^= 1
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err = again(t, p, launch.NewBuiltin(launch.RoleNode))
			if e, ok := errors.AsType[*tee.Error](err); !ok || e.Code != tee.CodeSealed && e.Code != tee.CodeRollback || e.Hint == "" {
				t.Errorf("got %v, want it refused with a hint", err)
			}
		})
	}
	t.Run("unreadable", func(t *testing.T) {
		t.Setenv(call.EnvState, t.TempDir())
		if err := os.Mkdir(filepath.Join(os.Getenv(call.EnvState), serviceKeyFile), 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := again(t, softwaretest.New(t), launch.NewBuiltin(launch.RoleNode)); err == nil {
			t.Error("a node without its service key starts")
		}
	})
}

// Plain HTTPS, as of curl, reaches the node too: nothing is proven to such a
// client, but who it is decides its certificate as ever.
func TestPlainHTTPS(t *testing.T) {
	w, _ := newWorld(t)
	id := identity(t)
	if _, err := w.client(id).PutKey(t.Context(), client.PutKey{Name: "app/key", Policy: policy(t, nil)}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		certs  []tls.Certificate
		status int
		shows  bool
	}{{"no certificate", nil, http.StatusUnauthorized, false}, {"the owner's", []tls.Certificate{*id}, http.StatusOK, true}, {"another's", []tls.Certificate{*identity(t)}, http.StatusOK, false}} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: c.certs}}
		t.Cleanup(transport.CloseIdleConnections)
		resp, err := (&http.Client{Transport: transport}).Get("https://" + w.address + "/v1/keys")
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != c.status || bytes.Contains(b, []byte("app/key")) != c.shows {
			t.Errorf("%s: %d %s (%v)", c.name, resp.StatusCode, b, err)
		}
	}
}

func TestClientOfAnotherPolicyLeaves(t *testing.T) {
	w, _ := newWorld(t)
	never := attest.Development()
	never.AllowSimulated = false
	n, err := client.NewNode(client.NodeConfig{Address: w.address, Roots: w.platform.Roots, Policy: never})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if _, err := n.Nonce(t.Context()); !errors.Is(err, attest.ErrRefused) {
		t.Errorf("got %v", err)
	}
}
