package compute

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/cloister-cc/cloister/tee/launch"
)

// Create is a request to make an instance.
type Create struct {
	Name   string
	Spec   Spec
	Image  io.Reader            // nil for builtin images
	Inputs map[string]io.Reader // by name; every input of the launch document
	Start  bool
}

var instanceName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// Create makes an instance: admission first, then its files, then the intent;
// only then may anything start.
func (s *Supervisor) Create(ctx context.Context, c Create) (Instance, error) {
	driver, err := s.admit(c)
	if err != nil {
		return Instance{}, err
	}
	expected, err := driver.Expect(c.Spec)
	if err != nil {
		return Instance{}, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	id := NodeName
	if c.Name != NodeName {
		var b [8]byte
		if _, err := rand.Read(b[:]); err != nil {
			return Instance{}, err
		}
		id = hex.EncodeToString(b[:])
	}
	intent := Intent{ID: id, Name: c.Name, Created: time.Now().UTC(), Spec: c.Spec, Expected: expected.Measurement, ExpectedRegisters: expected.Registers, Simulated: expected.Simulated, Size: expected.Size, Want: WantStopped}
	if c.Start {
		intent.Want, intent.Epoch = WantRunning, 1
	}
	d := Dir(filepath.Join(s.dir, id))
	k := newKeeper(d, intent)
	s.mu.Lock()
	if _, taken := s.keepers[c.Name]; taken {
		s.mu.Unlock()
		return Instance{}, ErrExists
	}
	if len(s.keepers) >= MaxInstances {
		s.mu.Unlock()
		return Instance{}, fmt.Errorf("%w: this host has %d instances already", ErrRefused, MaxInstances)
	}
	if c.Name != NodeName {
		if err := s.admitTo(c.Spec.project(), expected.Size, nil); err != nil {
			s.mu.Unlock()
			return Instance{}, err
		}
	}
	s.keepers[c.Name] = k // holds the name while the files are written
	s.mu.Unlock()
	if err := s.store(d, intent, c); err != nil {
		s.forget(k)
		_ = os.RemoveAll(string(d))
		return Instance{}, err
	}
	s.run(k)
	return k.instance(), nil
}

// admit refuses what could never run, before anything is made.
func (s *Supervisor) admit(c Create) (Driver, error) {
	refuse := func(format string, a ...any) (Driver, error) {
		return nil, fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, a...))
	}
	if !instanceName.MatchString(c.Name) {
		return refuse("name %q: want lower-case letters, digits and '-'", c.Name)
	}
	if c.Spec.Project != "" && !instanceName.MatchString(c.Spec.Project) {
		return refuse("project %q: want lower-case letters, digits and '-'", c.Spec.Project)
	}
	if (c.Name == NodeName) != (c.Spec.Launch.Role == launch.RoleNode) {
		return refuse("the name %q is for the node", NodeName)
	}
	driver, ok := s.drivers[c.Spec.TEE]
	if !ok {
		return refuse("this host runs no %q instances", c.Spec.TEE)
	}
	if err := c.Spec.Launch.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if err := c.Spec.Launch.CheckSignature(c.Spec.Signature); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if !slices.Contains([]Restart{"", RestartNever, RestartOnFailure, RestartAlways}, c.Spec.Restart) {
		return refuse("restart %q: want never, on-failure or always", c.Spec.Restart)
	}
	for name := range c.Spec.Env {
		if !slices.Contains(c.Spec.Launch.OperatorEnv, name) {
			return refuse("the launch document leaves no environment variable %q to the operator", name)
		}
	}
	for _, name := range c.Spec.Launch.Inputs {
		if c.Inputs[name] == nil {
			return refuse("input %q was not given", name)
		}
	}
	return driver, nil
}

// store writes the instance's files and commits the intent, last.
func (s *Supervisor) store(d Dir, intent Intent, c Create) error {
	if err := d.Make(); err != nil {
		return err
	}
	if c.Spec.Launch.Image.Kind != launch.Builtin {
		if c.Image == nil {
			return fmt.Errorf("%w: no image was given", ErrRefused)
		}
		if err := d.storeImage(c.Image, c.Spec.Launch.Image.Digest); err != nil {
			return err
		}
	}
	for _, name := range c.Spec.Launch.Inputs {
		if err := StoreFile(d.Input(name), c.Inputs[name], MaxInput); err != nil {
			return err
		}
	}
	if err := d.WriteIntent(intent); err != nil {
		return err
	}
	return syncDir(s.dir)
}
