package compute

import (
	"fmt"
	"strconv"
	"strings"
)

// DefaultProject is the project of an instance that names none, and AnyProject names
// those that have no quota of their own.
const (
	DefaultProject = "default"
	AnyProject     = "*"
)

// Quota bounds what the instances of a project may take together, stopped ones included:
// what was created can always be started. Zero is no bound.
type Quota struct {
	Instances int `json:"instances,omitempty"`
	MemoryMiB int `json:"memory_mib,omitempty"`
	VCPUs     int `json:"vcpus,omitempty"` // of virtual machines
}

// Quotas are those of projects by name; that of [AnyProject] is each other project's.
type Quotas map[string]Quota

// of is the quota of a project.
func (q Quotas) of(project string) Quota {
	if own, ok := q[project]; ok {
		return own
	}
	return q[AnyProject]
}

// ParseQuota reads PROJECT=instances:N,memory:MIB,vcpus:N, of which each part may be left
// out.
func ParseQuota(s string) (project string, q Quota, err error) {
	project, list, ok := strings.Cut(s, "=")
	if !ok || list == "" || project != AnyProject && !instanceName.MatchString(project) {
		return "", Quota{}, fmt.Errorf("quota %q: want PROJECT=instances:N,memory:MIB,vcpus:N; the project %q is each that is not named", s, AnyProject)
	}
	for part := range strings.SplitSeq(list, ",") {
		name, value, _ := strings.Cut(part, ":")
		bounds := map[string]*int{"instances": &q.Instances, "memory": &q.MemoryMiB, "vcpus": &q.VCPUs}
		into, known := bounds[name]
		n, err := strconv.Atoi(value)
		if !known || err != nil || n < 1 || *into != 0 {
			return "", Quota{}, fmt.Errorf("quota %q: %q: want instances, memory or vcpus once, with a number from 1 on", s, part)
		}
		*into = n
	}
	return project, q, nil
}

// project is that of a spec.
func (s Spec) project() string {
	if s.Project == "" {
		return DefaultProject
	}
	return s.Project
}

// admitTo refuses an instance that a project has no room for, in the place of another
// one if that is not nil. The caller holds the lock.
func (s *Supervisor) admitTo(project string, size Size, instead *keeper) error {
	q := s.quotas.of(project)
	taken := Quota{Instances: 1, MemoryMiB: size.MemoryMiB, VCPUs: size.VCPUs}
	for name, k := range s.keepers {
		k.mu.Lock()
		i := k.intent
		k.mu.Unlock()
		if name == NodeName || k == instead || i.Spec.project() != project {
			continue
		}
		taken.Instances++
		taken.MemoryMiB += i.Size.MemoryMiB
		taken.VCPUs += i.Size.VCPUs
	}
	for _, b := range []struct {
		what        string
		most, taken int
	}{{"instances", q.Instances, taken.Instances}, {"MiB of memory", q.MemoryMiB, taken.MemoryMiB}, {"virtual processors", q.VCPUs, taken.VCPUs}} {
		if b.most > 0 && b.taken > b.most {
			return fmt.Errorf("%w: project %s would have %d %s, and may have %d: delete an instance, or raise its quota (cloister up --quota)", ErrQuota, project, b.taken, b.what, b.most)
		}
	}
	return nil
}
