package sandbox

import (
	"errors"
	"slices"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
)

var errNoSeccomp = errors.New("seccomp is not available")

// baseCalls is what a Go program needs to compute, to talk on the descriptors
// it was given and to use the files that Landlock leaves it. There is no call
// here that makes a socket, a namespace, a mount, a process, or looks at
// another process. A call that is not listed returns EPERM.
var baseCalls = []string{
	// memory and threads
	"brk", "madvise", "mincore", "mmap", "mprotect", "mremap", "munmap", "futex", "futex_waitv", "get_robust_list", "set_robust_list",
	"set_tid_address", "rseq", "sched_getaffinity", "sched_yield", "membarrier", "memfd_secret", "arch_prctl", "exit", "exit_group", "restart_syscall",
	// signals to itself
	"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigsuspend", "sigaltstack",
	// descriptors
	"close", "close_range", "dup", "dup2", "dup3", "fcntl", "ioctl", "lseek", "pipe2", "read", "readv", "pread64", "preadv", "write", "writev", "pwrite64", "pwritev",
	"eventfd2", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_pwait2", "epoll_wait", "poll", "ppoll", "select", "pselect6",
	"sendmsg", "sendto", "recvmsg", "recvfrom", "shutdown", "getsockname", "getpeername", "getsockopt", "setsockopt", "accept4", "splice", "sendfile", "copy_file_range",
	// files
	"openat", "newfstatat", "fstat", "fstatfs", "statfs", "statx", "stat", "lstat", "access", "faccessat", "faccessat2", "getdents64", "getcwd", "readlink", "readlinkat",
	"mkdirat", "unlinkat", "renameat", "renameat2", "linkat", "ftruncate", "fallocate", "fsync", "fdatasync", "flock", "fchmod", "fchmodat", "utimensat", "umask", "chdir", "fchdir",
	"open", "unlink", "rename", "mkdir", "rmdir",
	// identity, limits and time
	"getpid", "gettid", "getppid", "getuid", "geteuid", "getgid", "getegid", "uname", "getrlimit", "prlimit64", "getrusage", "sysinfo", "getrandom", "capget",
	"clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time", "timer_create", "timer_settime", "timer_delete", "setitimer",
}

// waitCalls is what the agent needs beside that: to wait for the program and
// to end it. (It also makes pairs of connected sockets, see conditional.)
var waitCalls = []string{"wait4", "waitid", "kill", "pidfd_send_signal"}

// threadFlags must all be set in clone's flags: a thread, never a process.
const threadFlags = unix.CLONE_VM | unix.CLONE_THREAD | unix.CLONE_SIGHAND

func filterSyscalls(p Profile) error {
	if !seccomp.Supported() {
		return errNoSeccomp
	}
	info, err := arch.GetInfo("")
	if err != nil {
		return errNoSeccomp
	}
	names := baseCalls
	if p.Wait {
		names = append(slices.Clip(names), waitCalls...)
	}
	if p.Execute != "" {
		names = append(slices.Clip(names), "execve")
	}
	var known []string
	for _, n := range names {
		if _, ok := info.SyscallNames[n]; ok { // other architectures lack the old calls
			known = append(known, n)
		}
	}
	return seccomp.LoadFilter(seccomp.Filter{
		NoNewPrivs: true,
		Flag:       seccomp.FilterFlagTSync,
		Policy: seccomp.Policy{
			DefaultAction: seccomp.ActionErrno,
			Syscalls: []seccomp.SyscallGroup{
				{Action: seccomp.ActionAllow, Names: known, NamesWithCondtions: conditional(p)},
				// A filter cannot look into clone3's arguments; ENOSYS sends the C
				// library and Go back to clone.
				{Action: seccomp.ActionErrno | seccomp.Action(unix.ENOSYS), Names: []string{"clone3"}},
			},
		},
	})
}

// conditional lists the calls that are allowed with some arguments only.
func conditional(p Profile) []seccomp.NameWithConditions {
	// All are told apart by their first argument.
	is := func(name string, op seccomp.Operation, value uint64) seccomp.NameWithConditions {
		return seccomp.NameWithConditions{Name: name, Conditions: seccomp.ArgumentConditions{{Argument: 0, Operation: op, Value: value}}}
	}
	self := uint64(unix.Getpid())
	list := []seccomp.NameWithConditions{
		is("clone", seccomp.BitsSet, threadFlags),
		is("tgkill", seccomp.Equal, self), // preempt own threads, not the agent
		is("prctl", seccomp.Equal, unix.PR_SET_VMA),
		is("prctl", seccomp.Equal, unix.PR_SET_NAME),
		is("prctl", seccomp.Equal, unix.PR_SET_DUMPABLE),
		is("prctl", seccomp.Equal, unix.PR_SET_NO_NEW_PRIVS),
		is("prctl", seccomp.Equal, unix.PR_SET_SECCOMP),
		is("prctl", seccomp.Equal, unix.PR_GET_DUMPABLE),
	}
	if p.Wait { // connections for the program
		list = append(list, is("socketpair", seccomp.Equal, unix.AF_UNIX))
	}
	return list
}
