package server

import (
	"bufio"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/cloister-cc/cloister/compute"
)

func write(t *testing.T, path, content string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.WriteString(f, content)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestLogs(t *testing.T) {
	h, _ := newHost(t)
	dir := create(t, h, "worker", spec(), false)
	logs := func() string {
		t.Helper()
		w := do(t, h, http.MethodGet, "/v1/instances/worker/logs", "", nil)
		if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/jsonl" {
			t.Errorf("%d %v", w.Code, w.Header())
		}
		return w.Body.String()
	}
	if got := logs(); got != "" {
		t.Errorf("before the first start: %q", got)
	}
	write(t, dir.Log(), "new\n")
	if got := logs(); got != "new\n" {
		t.Errorf("got %q", got)
	}
	write(t, dir.Log()+".1", "old\n")
	if got := logs(); got != "old\nnew\n" {
		t.Errorf("got %q, want the older part first", got)
	}
	// Followed, the log of an instance that has ended ends.
	if w := do(t, h, http.MethodGet, "/v1/instances/worker/logs?follow=1", "", nil); w.Body.String() != "old\nnew\n" {
		t.Errorf("followed: %q", w.Body)
	}
}

// follow reads a followed log line by line.
func follow(t *testing.T, h *Host) (line func() string, rest func() string) {
	t.Helper()
	s := httptest.NewServer(h.routes())
	t.Cleanup(s.Close)
	resp, err := s.Client().Get(s.URL + "/v1/instances/worker/logs?follow=1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	r := bufio.NewReader(resp.Body)
	line = func() string {
		l, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("after %q: %v", l, err)
		}
		return l
	}
	rest = func() string {
		b, err := io.ReadAll(r)
		if err != nil {
			t.Error(err)
		}
		return string(b)
	}
	return line, rest
}

func TestFollow(t *testing.T) {
	h, shims := newHost(t)
	dir := create(t, h, "worker", spec(), true)
	reach(t, h, "worker", compute.Running)
	line, rest := follow(t, h) // before there is a file
	for _, want := range []string{"one\n", "two\n"} {
		write(t, dir.Log(), want)
		if got := line(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	write(t, dir.Log(), "last\n")
	shims.set(dir, compute.Stopped, "")
	if got := rest(); got != "last\n" {
		t.Errorf("at the end: %q, want the last line", got)
	}
}

// Lines around a rotation arrive, in order and once.
func TestFollowAcrossRotation(t *testing.T) {
	h, shims := newHost(t)
	dir := create(t, h, "worker", spec(), true)
	reach(t, h, "worker", compute.Running)
	write(t, dir.Log(), "0\n")
	line, rest := follow(t, h)
	if got := line(); got != "0\n" {
		t.Fatalf("got %q", got)
	}
	for _, n := range []string{"1", "2", "3"} {
		// As a shim does it: the last line of the old file comes right before.
		before, after := n+" before\n", n+" after\n"
		write(t, dir.Log(), before)
		if err := os.Rename(dir.Log(), dir.Log()+".1"); err != nil {
			t.Fatal(err)
		}
		write(t, dir.Log(), after)
		if got := line() + line(); got != before+after {
			t.Errorf("got %q, want %q", got, before+after)
		}
	}
	shims.set(dir, compute.Stopped, "")
	if got := rest(); got != "" {
		t.Errorf("more at the end: %q", got)
	}
}

func TestFollowEndsWithTheInstance(t *testing.T) {
	h, _ := newHost(t)
	dir := create(t, h, "worker", spec(), true)
	reach(t, h, "worker", compute.Running)
	write(t, dir.Log(), "line\n")
	line, rest := follow(t, h)
	_ = line()
	if err := h.supervisor.Delete("worker"); err != nil {
		t.Fatal(err)
	}
	if got := rest(); got != "" {
		t.Errorf("a deleted instance still prints %q", got)
	}
}
