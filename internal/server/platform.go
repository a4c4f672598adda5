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
	exited, err := ensurePlatform(ctx, paths, record)
	if err != nil {
		return software.PlatformInfo{}, err
	}
	client, err := software.Connect(paths.PlatformSocket())
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
			if exited, err = ensurePlatform(ctx, paths, record); err != nil {
				logger.ErrorContext(ctx, "software TEE platform does not start", slog.Any("error", err))
				exited = nil
			}
		}
	}()
	return client.Platform(), nil
}

// ensurePlatform adopts the running platform (then the channel is nil) or
// starts one and waits until it answers.
func ensurePlatform(ctx context.Context, paths datadir.Paths, record tap.Dir) (<-chan struct{}, error) {
	if _, err := software.Connect(paths.PlatformSocket()); err == nil {
		return nil, nil
	}
	log, err := os.OpenFile(paths.PlatformLog(), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start software TEE platform: %w", err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command("/proc/self/exe", PlatformCommand, paths.Data, string(record))
	cmd.Args[0] = "cloister"
	cmd.Dir, cmd.Env = "/", []string{}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // survives its supervisor
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start software TEE platform: %w", err)
	}
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }()
	deadline := time.Now().Add(platformStart)
	for {
		if _, err := software.Connect(paths.PlatformSocket()); err == nil {
			return exited, nil
		}
		select {
		case <-exited:
			return nil, fmt.Errorf("start software TEE platform: it ended: %s", tail(paths.PlatformLog()))
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(2 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return nil, errors.New("start software TEE platform: it does not answer")
		}
	}
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

// stopPlatform ends the platform once nothing uses it any more.
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
	return syscall.Kill(pid, syscall.SIGTERM)
}
