package compute_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/cloister-cc/cloister/compute"
)

func TestParseQuota(t *testing.T) {
	for s, want := range map[string]compute.Quota{
		"a=instances:3": {Instances: 3}, "*=memory:2048,vcpus:4": {MemoryMiB: 2048, VCPUs: 4}, "team-b=vcpus:1,instances:2,memory:3": {Instances: 2, MemoryMiB: 3, VCPUs: 1},
	} {
		project, got, err := compute.ParseQuota(s)
		if err != nil || got != want || !strings.HasPrefix(s, project+"=") {
			t.Errorf("%s: %q, %+v, %v", s, project, got, err)
		}
	}
	for _, s := range []string{"", "a", "a=", "=instances:1", "A=instances:1", "a=instances", "a=instances:0", "a=instances:-1", "a=disk:1", "a=memory:1,memory:2", "a=instances:1,", "**=instances:1"} {
		if project, got, err := compute.ParseQuota(s); err == nil || project != "" || got != (compute.Quota{}) {
			t.Errorf("%q: %q, %+v", s, project, got)
		}
	}
}

// TestQuotas: a project takes no more than it may, whoever asks at the same time, before
// anything is made; others are not held up.
func TestQuotas(t *testing.T) {
	s := open(t, t.TempDir(), newFakeShims())
	s.Limit(compute.Quotas{"small": {Instances: 3}, compute.AnyProject: {MemoryMiB: 250}})
	create := func(name, project string) error {
		sp := spec()
		sp.Project = project
		_, err := s.Create(context.Background(), compute.Create{Name: name, Spec: sp, Image: strings.NewReader("module"), Inputs: map[string]io.Reader{"data": strings.NewReader("x")}})
		return err
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	made, refused := 0, 0
	for name := range strings.FieldsSeq("a b c d e f g h i j") {
		wg.Go(func() {
			err := create(name, "small")
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				made++
			case errors.Is(err, compute.ErrQuota) && strings.Contains(err.Error(), "project small would have 4 instances, and may have 3"):
				refused++
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if made != 3 || refused != 7 || len(s.List()) != 3 {
		t.Errorf("%d made, %d refused, %d there", made, refused, len(s.List()))
	}
	// Each takes 100 MiB here.
	if err := errors.Join(create("one", ""), create("two", compute.DefaultProject)); err != nil {
		t.Fatal(err)
	}
	if err := create("three", ""); !errors.Is(err, compute.ErrQuota) || !strings.Contains(err.Error(), "project default would have 300 MiB of memory, and may have 250") {
		t.Errorf("a third: %v", err)
	}
	if err := create("other", "another-project"); err != nil {
		t.Error(err)
	}
	if err := create("bad", "Bad Name"); !errors.Is(err, compute.ErrRefused) || !strings.Contains(err.Error(), "project") {
		t.Errorf("a bad name: %v", err)
	}
	if err := s.Delete("one"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Wait(t.Context(), "one", func(compute.Instance) bool { return false }); !errors.Is(err, compute.ErrNotFound) {
		t.Fatal(err)
	}
	if err := create("three", ""); err != nil {
		t.Errorf("after one was deleted: %v", err)
	}
}
