package sandbox

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Cgroup limits the memory and the number of processes of a child, where the
// host lets this user make control groups: version 2 with delegation, or the
// memory and pids hierarchies of version 1.
type Cgroup struct {
	memory, pids string // directories; empty: the host does not offer it
}

// CgroupPrefix starts the name of every control group made here, so that a
// sweeper can tell them.
const CgroupPrefix = "cloister-"

// NewCgroup makes a control group for the instance id with the given limits.
// What the host does not offer is left out; [Cgroup.Add] reports it.
func NewCgroup(id string, memoryBytes uint64, pids int) *Cgroup {
	parents := cgroupParents()
	c := &Cgroup{}
	make1 := func(parent, file, value string) string {
		if parent == "" {
			return ""
		}
		dir := filepath.Join(parent, CgroupPrefix+id)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return ""
		}
		if err := os.WriteFile(filepath.Join(dir, file), []byte(value), 0o600); err != nil {
			_ = os.Remove(dir)
			return ""
		}
		return dir
	}
	bytes, count := strconv.FormatUint(memoryBytes, 10), strconv.Itoa(pids)
	if parents.v2 != "" {
		if c.memory = make1(parents.v2, "memory.max", bytes); c.memory != "" {
			_ = os.WriteFile(filepath.Join(c.memory, "memory.swap.max"), []byte("0"), 0o600)
		}
		c.pids = make1(parents.v2, "pids.max", count)
	}
	if c.memory == "" {
		c.memory = make1(parents.memory, "memory.limit_in_bytes", bytes)
	}
	if c.pids == "" {
		c.pids = make1(parents.pids, "pids.max", count)
	}
	return c
}

// Add moves a process, before it runs, into the group.
func (c *Cgroup) Add(pid int) Report {
	var r Report
	join := func(dir string) error {
		if dir == "" {
			return unix.ENOTSUP
		}
		return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o600)
	}
	r.add(MemoryLimit, join(c.memory))
	if c.pids == c.memory {
		r.add(PIDLimit, join(c.memory))
	} else {
		r.add(PIDLimit, join(c.pids))
	}
	return r
}

// OutOfMemory reports whether the kernel killed a member at the memory limit.
func (c *Cgroup) OutOfMemory() bool {
	if c.memory == "" {
		return false
	}
	for _, file := range []string{"memory.events", "memory.oom_control"} {
		b, err := os.ReadFile(filepath.Join(c.memory, file))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if n, ok := strings.CutPrefix(strings.TrimSpace(line), "oom_kill "); ok && n != "0" {
				return true
			}
		}
	}
	return false
}

// Remove deletes the group once its members are gone.
func (c *Cgroup) Remove() {
	for _, dir := range []string{c.memory, c.pids} {
		removeCgroup(dir)
	}
}

// SweepCgroups deletes the empty control groups of instances that keep does not
// want any more.
func SweepCgroups(keep func(id string) bool) {
	p := cgroupParents()
	for _, parent := range []string{p.v2, p.memory, p.pids} {
		if parent == "" {
			continue
		}
		dirs, err := filepath.Glob(filepath.Join(parent, CgroupPrefix+"*"))
		if err != nil {
			continue
		}
		for _, dir := range dirs {
			if !keep(strings.TrimPrefix(filepath.Base(dir), CgroupPrefix)) {
				_ = os.Remove(dir) // fails while it has members
			}
		}
	}
}

func removeCgroup(dir string) {
	if dir == "" {
		return
	}
	// The kernel lets go of a dead member a moment after it was reaped.
	for range 50 {
		if err := os.Remove(dir); err == nil || errors.Is(err, os.ErrNotExist) {
			return
		}
		time.Sleep(2 * time.Millisecond) //nolint:forbidigo // the kernel tells nobody
	}
}

// cgroupDirs are the directories of this process's own control groups; empty:
// not mounted.
type cgroupDirs struct{ v2, memory, pids string }

func cgroupParents() cgroupDirs {
	mounts := cgroupMounts()
	var d cgroupDirs
	f, err := os.Open("/proc/self/cgroup")
	if err != nil {
		return d
	}
	defer func() { _ = f.Close() }()
	for s := bufio.NewScanner(f); s.Scan(); {
		// hierarchy-ID:controller-list:path, cgroups(7).
		parts := strings.SplitN(s.Text(), ":", 3)
		if len(parts) != 3 {
			continue
		}
		if parts[0] == "0" && mounts[""] != "" {
			d.v2 = filepath.Join(mounts[""], parts[2])
		}
		for controller := range strings.SplitSeq(parts[1], ",") {
			switch dir := mounts[controller]; {
			case dir == "":
			case controller == "memory":
				d.memory = filepath.Join(dir, parts[2])
			case controller == "pids":
				d.pids = filepath.Join(dir, parts[2])
			}
		}
	}
	return d
}

// cgroupMounts maps a version 1 controller, or "" for version 2, to where its
// hierarchy is mounted.
func cgroupMounts() map[string]string {
	m := map[string]string{}
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return m
	}
	defer func() { _ = f.Close() }()
	for s := bufio.NewScanner(f); s.Scan(); {
		var device, dir, kind, options string
		if n, _ := fmt.Sscan(s.Text(), &device, &dir, &kind, &options); n != 4 {
			continue
		}
		switch kind {
		case "cgroup2":
			m[""] = dir
		case "cgroup":
			for o := range strings.SplitSeq(options, ",") {
				if o == "memory" || o == "pids" {
					m[o] = dir
				}
			}
		}
	}
	return m
}
