package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/cloister-cc/cloister/compute"
)

// logPoll is how often a followed log is looked at.
const logPoll = 50 * time.Millisecond

// logs sends the console log, the older part first, as JSON lines (shim.LogLine).
// With ?follow=1 it goes on until the instance has ended.
func (h *Host) logs(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("name")
	dir, err := h.supervisor.Dir(name)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/jsonl")
	if f, err := os.Open(dir.Log() + ".1"); err == nil {
		_, _ = io.Copy(w, f)
		_ = f.Close()
	}
	if r.URL.Query().Get("follow") != "1" {
		f, err := os.Open(dir.Log())
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		_, err = io.Copy(w, f)
		return err
	}
	h.followLog(r.Context(), w, dir, name)
	return nil
}

func (h *Host) followLog(ctx context.Context, w http.ResponseWriter, dir compute.Dir, name string) {
	flush := func() {
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
	}
	flush()
	var file *os.File
	defer func() {
		if file != nil {
			_ = file.Close()
		}
	}()
	for {
		i, err := h.supervisor.Get(name)
		last := err != nil || i.Status.State.Final()
		if file == nil {
			file, _ = os.Open(dir.Log())
		}
		if file != nil {
			if n, err := io.Copy(w, file); err != nil {
				return
			} else if n > 0 {
				flush()
			}
			if rotated(file, dir.Log()) {
				// Lines may have come between the copy and the rotation; none come
				// after it.
				_, _ = io.Copy(w, file)
				_ = file.Close()
				file = nil
				continue
			}
		}
		if last {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(logPoll):
		}
	}
}

// rotated reports whether path is another file than the open one.
func rotated(f *os.File, path string) bool {
	now, err1 := os.Stat(path)
	open, err2 := f.Stat()
	return err1 == nil && err2 == nil && !os.SameFile(now, open)
}

// diskError reports whether the host's disk refused a write.
func diskError(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EDQUOT)
}
