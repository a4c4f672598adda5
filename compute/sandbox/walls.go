package sandbox

import "slices"

// Wall names one layer of isolation.
type Wall string

// The walls, in the order in which they go up.
const (
	UserNamespace   Wall = "user_namespace"
	PIDNamespace    Wall = "pid_namespace"
	MountNamespace  Wall = "mount_namespace"
	NetNamespace    Wall = "net_namespace"
	IPCNamespace    Wall = "ipc_namespace"
	UTSNamespace    Wall = "uts_namespace"
	CgroupNamespace Wall = "cgroup_namespace"
	EmptyRoot       Wall = "empty_root"
	NoCoreDump      Wall = "no_core_dump"
	NotDumpable     Wall = "not_dumpable"
	NoCapabilities  Wall = "no_capabilities"
	Landlock        Wall = "landlock"
	LandlockScope   Wall = "landlock_scope"
	NoNewPrivileges Wall = "no_new_privileges"
	Seccomp         Wall = "seccomp"
	MemfdSecret     Wall = "memfd_secret"
	MemoryLimit     Wall = "cgroup_memory"
	PIDLimit        Wall = "cgroup_pids"
)

// All returns every wall.
func All() []Wall {
	return []Wall{
		UserNamespace, PIDNamespace, MountNamespace, NetNamespace, IPCNamespace, UTSNamespace, CgroupNamespace,
		EmptyRoot, NoCoreDump, NotDumpable, NoCapabilities, Landlock, LandlockScope, NoNewPrivileges, Seccomp,
		MemfdSecret, MemoryLimit, PIDLimit,
	}
}

// Report says which walls stand. A wall that is in neither list was not tried.
type Report struct {
	Applied []Wall `json:"applied"`
	Missing []Wall `json:"missing"`
}

// add records the outcome of putting up one wall.
func (r *Report) add(w Wall, err error) {
	if err != nil {
		r.Missing = append(r.Missing, w)
		return
	}
	r.Applied = append(r.Applied, w)
}

// Merge returns the walls that stand in r and in o; a wall that is missing in
// either is missing.
func (r Report) Merge(o Report) Report {
	var m Report
	for _, w := range All() {
		switch {
		case slices.Contains(r.Missing, w) || slices.Contains(o.Missing, w):
			m.Missing = append(m.Missing, w)
		case slices.Contains(r.Applied, w) || slices.Contains(o.Applied, w):
			m.Applied = append(m.Applied, w)
		}
	}
	return m
}

// Strings returns the names of walls, for evidence and tables.
func Strings(walls []Wall) []string {
	s := make([]string, len(walls))
	for i, w := range walls {
		s[i] = string(w)
	}
	return s
}
