package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/cloister-cc/cloister/internal/datadir"
	"github.com/cloister-cc/cloister/internal/tap"
	"github.com/cloister-cc/cloister/internal/unixsock"
	"github.com/cloister-cc/cloister/tee/software"
	"golang.org/x/sys/unix"
)

// PlatformCommand is the hidden command of this binary that is the software
// TEE's platform: platform DATADIR RECORD.
const PlatformCommand = "platform"

// PlatformMain runs the platform of a data directory until it is told to stop.
func PlatformMain(args []string, logger *slog.Logger) int {
	if len(args) != 2 {
		fmt.Fprintln(os.Stderr, "platform: want a directory, and where to record")
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := runPlatform(ctx, datadir.Paths{Data: args[0]}, tap.Dir(args[1]), logger); err != nil {
		fmt.Fprintln(os.Stderr, "platform:", err)
		return 1
	}
	return 0
}

func runPlatform(ctx context.Context, paths datadir.Paths, record tap.Dir, logger *slog.Logger) error {
	p, err := software.OpenPlatform(paths.Platform(), software.Options{Logger: logger, Record: record.Frames})
	if err != nil {
		return err
	}
	defer func() { _ = p.Close() }()
	l, err := unixsock.Listen(paths.PlatformSocket())
	if err != nil {
		return err
	}
	return p.Serve(ctx, l)
}

// platformStart bounds how long a platform may take to answer.
const platformStart = 20 * time.Second

// keepPlatform makes sure that a platform runs, now and until ctx ends. It
// returns when the first one answers.
func keepPlatform(ctx context.Context, paths datadir.Paths, record tap.Dir, logger *slog.Logger) (software.PlatformInfo, error) {
	client, exited, err := ensurePlatform(ctx, paths, record)
	if err != nil {
		return software.PlatformInfo{}, err
	}
	go func() {
		for ctx.Err() == nil {
			select {
			case <-exited:
			case <-time.After(time.Second):
				if _, err := software.Connect(paths.PlatformSocket()); err == nil {
					continue
				}
			case <-ctx.Done():
			}
			if ctx.Err() != nil {
				return // it ended because we do
			}
			logger.WarnContext(ctx, "software TEE platform ended; starting it again")
			if _, exited, err = ensurePlatform(ctx, paths, record); err != nil {
				logger.ErrorContext(ctx, "software TEE platform does not start", slog.Any("error", err))
				exited = nil
			}
		}
	}()
	return client.Platform(), nil
}

// ensurePlatform adopts the running platform (then the channel is nil) or
// starts one and waits until it answers.
func ensurePlatform(ctx context.Context, paths datadir.Paths, record tap.Dir) (*software.Client, <-chan struct{}, error) {
	if c, err := software.Connect(paths.PlatformSocket()); err == nil {
		return c, nil, nil
	}
	exited, err := startPlatform(paths, record)
	if err != nil {
		return nil, nil, fmt.Errorf("start software TEE platform: %w", err)
	}
	deadline := time.Now().Add(platformStart)
	for {
		if c, err := software.Connect(paths.PlatformSocket()); err == nil {
			return c, exited, nil
		}
		select {
		case <-exited:
			return nil, nil, fmt.Errorf("start software TEE platform: it ended: %s", tail(paths.PlatformLog()))
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-time.After(2 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return nil, nil, errors.New("start software TEE platform: it does not answer")
		}
	}
}

// startPlatform starts a platform; the channel is closed when it has ended.
func startPlatform(paths datadir.Paths, record tap.Dir) (<-chan struct{}, error) {
	log, err := os.OpenFile(paths.PlatformLog(), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command("/proc/self/exe", PlatformCommand, paths.Data, string(record))
	cmd.Args[0] = "cloister"
	cmd.Dir, cmd.Env = "/", []string{}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // survives its supervisor
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }()
	return exited, nil
}

// tail returns the end of a short log, for an error message.
func tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	const most = 2000
	if len(b) > most {
		b = b[len(b)-most:]
	}
	return string(b)
}

// platformStop bounds how long a platform may take to end.
const platformStop = 10 * time.Second

// stopPlatform ends the platform once nothing uses it any more, and waits until it
// has: whoever starts next would adopt one that is about to end.
func stopPlatform(paths datadir.Paths) error {
	c, err := unixsock.Dial(context.Background(), paths.PlatformSocket())
	if err != nil {
		return nil // it does not run
	}
	defer func() { _ = c.Close() }()
	pid, err := unixsock.PeerPID(c)
	if err != nil {
		return err
	}
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	defer func() { _ = unix.Close(process) }()
	if err := unix.PidfdSendSignal(process, unix.SIGTERM, nil, 0); err != nil {
		return os.NewSyscallError("pidfd_send_signal", err)
	}
	deadline := time.Now().Add(platformStop)
	for {
		left := max(0, time.Until(deadline).Milliseconds())
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(process), Events: unix.POLLIN}}, int(left)) // readable once it has ended
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return os.NewSyscallError("poll", err)
		case n > 0:
			return nil
		default:
			return fmt.Errorf("process %d does not end", pid)
		}
	}
}
