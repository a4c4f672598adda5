package compute

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is what an instance costs its host, as the host sees it: everything below the
// process that owns it, and not that one.
type Usage struct {
	CPU       time.Duration `json:"cpu_ns"`       // processor time so far
	Memory    int64         `json:"memory_bytes"` // resident, pages that are shared counted each time
	Processes int           `json:"processes"`
}

// clockTick is the unit of processor times in /proc (sysconf(_SC_CLK_TCK), which is 100
// on every architecture that Linux has).
const clockTick = 10 * time.Millisecond

// process is a line of /proc/PID/stat (proc_pid_stat(5)), as far as it is used here.
type process struct {
	parent int
	cpu    time.Duration
	memory int64
}

// UsageOf returns what runs below each of some processes, from one look at all that this
// host runs. A process that is not there has no entry.
func UsageOf(owners []int) (map[int]Usage, error) {
	all, err := processes()
	if err != nil {
		return nil, err
	}
	out := map[int]Usage{}
	for _, owner := range owners {
		if _, there := all[owner]; there {
			out[owner] = Usage{}
		}
	}
	for pid, p := range all {
		// Up to the owner, if there is one. Parents that end meanwhile are gone from
		// the list, so no way is longer than it.
		for at, steps := p.parent, 0; at > 1 && steps < len(all); steps++ {
			if u, owned := out[at]; owned && pid != at {
				out[at] = Usage{u.CPU + p.cpu, u.Memory + p.memory, u.Processes + 1}
				break
			}
			at = all[at].parent
		}
	}
	return out, nil
}

func processes() (map[int]process, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	all := make(map[int]process, len(files))
	for _, file := range files {
		b, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // it has ended
		}
		if err != nil {
			return nil, err
		}
		pid, p, err := parseStat(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all[pid] = p
	}
	return all, nil
}

// parseStat reads /proc/PID/stat. The name stands in parentheses and may have any
// character in it, so fields are counted from the last of them.
func parseStat(b []byte) (int, process, error) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return 0, process{}, errors.New("no name")
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(b[:open])))
	if err != nil {
		return 0, process{}, errors.New("no number")
	}
	fields := bytes.Fields(b[end+1:]) // from field 3 on
	if len(fields) < 22 {
		return 0, process{}, fmt.Errorf("%d fields", len(fields)+2)
	}
	number := func(field int) int64 {
		n, parseErr := strconv.ParseInt(string(fields[field-3]), 10, 64)
		err = errors.Join(err, parseErr)
		return n
	}
	p := process{parent: int(number(4)), cpu: time.Duration(number(14)+number(15)) * clockTick, memory: number(24) * int64(os.Getpagesize())}
	if err != nil {
		return 0, process{}, err
	}
	return pid, p, nil
}
