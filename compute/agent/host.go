package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/cloister-cc/cloister/compute/link"
	"github.com/cloister-cc/cloister/internal/frame"
	"github.com/cloister-cc/cloister/tee/launch"
)

// begin takes from the host what is to be launched, and has the TEE compare or
// measure it.
func (a *agent) begin() error {
	s, _, err := a.link.Open(link.Request{Op: link.OpLaunch})
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	var l link.Launch
	if err := frame.Read(s, link.MaxLaunch, &l); err != nil {
		return fmt.Errorf("read what is to be launched: %w", err)
	}
	b, err := a.tee.begin(context.Background(), l, a.walls)
	if err != nil {
		return err
	}
	a.doc, a.identity, a.trust = b.document, b.identity, b.node
	a.identity.Debug, a.identity.Args = a.doc.Debug, a.doc.Args
	a.node = sync.OnceValues(a.prepareNode)
	return nil
}

// loadImage takes the image from the host, copies it into the instance and
// compares the copy with the launch document: what runs is what was hashed.
func (a *agent) loadImage() (string, error) {
	if a.doc.Image.Kind == launch.Builtin {
		return "", nil
	}
	s, _, err := a.link.Open(link.Request{Op: link.OpImage})
	if err != nil {
		return "", err
	}
	defer func() { _ = s.Close() }()
	dir, mode := a.paths.Work, os.FileMode(0o400)
	if a.doc.Image.Kind == launch.ELF {
		dir, mode = a.paths.App, 0o500
	}
	path := filepath.Join(dir, "image")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return "", fmt.Errorf("store image: %w", err)
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), io.LimitReader(s, launch.MaxImage+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("store image: %w", err)
	}
	if n > launch.MaxImage || !bytes.Equal(h.Sum(nil), a.doc.Image.Digest) {
		return "", &failure{code: "image_mismatch", err: errors.New("the host gave another image than the launch document names")}
	}
	return path, nil
}

// loadInputs copies the inputs into the instance before the program starts, so
// that the host cannot change them while they are read.
func (a *agent) loadInputs() error {
	dir := filepath.Join(a.paths.Work, "in")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, name := range a.doc.Inputs {
		s, reply, err := a.link.Open(link.Request{Op: link.OpInput, Name: name})
		if err != nil {
			return &failure{code: "input_missing", err: fmt.Errorf("input %s: %w", name, err), hint: "give it: --in " + name + "=FILE"}
		}
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o400)
		if err == nil {
			_, err = io.CopyN(f, s, reply.Size)
			err = errors.Join(err, f.Close())
		}
		_ = s.Close()
		if err != nil {
			return &failure{code: "input", err: fmt.Errorf("store input %s: %w", name, err), hint: "inputs must fit into the instance's memory limit"}
		}
	}
	return nil
}

// operatorEnv takes the host's values of the environment variables that the
// launch document leaves to it; others are dropped.
func (a *agent) operatorEnv() ([]string, error) {
	if len(a.doc.OperatorEnv) == 0 {
		return nil, nil
	}
	s, _, err := a.link.Open(link.Request{Op: link.OpEnv})
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }()
	var given map[string]string
	if err := frame.Read(s, 1<<20, &given); err != nil {
		return nil, fmt.Errorf("read operator environment: %w", err)
	}
	var env []string
	for _, name := range a.doc.OperatorEnv {
		if v, ok := given[name]; ok && len(v) <= launch.MaxString {
			env = append(env, name+"="+v)
		}
	}
	return env, nil
}

// sendOutputs gives the host the outputs that the launch document lists and the
// program wrote.
func (a *agent) sendOutputs() error {
	for _, name := range a.doc.Outputs {
		f, err := os.Open(filepath.Join(a.paths.Work, "out", name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		err = a.sendOutput(name, f)
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("send output %s: %w", name, err)
		}
	}
	return nil
}

// sendOutput sends one output and waits until the host has stored all of it.
func (a *agent) sendOutput(name string, f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return errors.New("not a regular file")
	}
	s, _, err := a.link.Open(link.Request{Op: link.OpOutput, Name: name, Size: st.Size()})
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	if _, err := io.CopyN(s, f, st.Size()); err != nil {
		return err
	}
	var stored link.Reply
	if err := frame.Read(s, link.MaxRequest, &stored); err != nil {
		return err
	}
	if stored.Error != "" {
		return errors.New(stored.Error)
	}
	return nil
}

// copyLogs sends what the program prints to the host as far as the launch
// document allows, and throws the rest away.
func (a *agent) copyLogs() {
	forward := func(r io.ReadCloser, name string, allowed []launch.Logs) {
		defer a.logs.Done()
		defer func() { _ = r.Close() }()
		w := io.Discard
		if slices.Contains(allowed, a.doc.Logs) {
			if s, _, err := a.link.Open(link.Request{Op: link.OpLog, Name: name}); err == nil {
				defer func() { _ = s.Close() }()
				w = s
			}
		}
		_, _ = io.Copy(w, r)
		_, _ = io.Copy(io.Discard, r) // the host stopped reading; the program goes on
	}
	a.logs.Add(2)
	go forward(a.program.output, "stdout", []launch.Logs{launch.LogsAll})
	go forward(a.program.errors, "stderr", []launch.Logs{launch.LogsAll, launch.LogsStderr})
}
