package compute

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
)

// Errors of a [Supervisor] that a caller can act on.
var (
	ErrNotFound = errors.New("no such instance")
	ErrExists   = errors.New("an instance of that name exists: delete it or choose another name")
	ErrRefused  = errors.New("refused before anything was started") // the text says why
	ErrState    = errors.New("not possible in the instance's state")
)

// Limits of one host.
const (
	MaxInstances = 1024
	MaxInput     = 1 << 30 // bytes of one input
)

// Shims starts and reaches the processes that own instances; package
// compute/shim implements it.
type Shims interface {
	// Start starts the owner of the instance in dir and returns at once.
	Start(dir Dir) error
	// Watch reports the status now and after each change until the owner ends.
	Watch(ctx context.Context, dir Dir, changed func(Status)) error
	// Stop and Kill end the instance.
	Stop(ctx context.Context, dir Dir) error
	Kill(ctx context.Context, dir Dir) error
}

// Supervisor keeps the instances of one host in line with what their owners
// want. It is safe for concurrent use.
type Supervisor struct {
	dir     string // holds one directory per instance
	drivers map[tee.Kind]Driver
	shims   Shims
	logger  *slog.Logger
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup

	mu      sync.Mutex
	keepers map[string]*keeper // by name
}

// Open starts supervising the instances in dir: it adopts those that run,
// starts those that should, and removes what a crash left half made.
func Open(ctx context.Context, dir string, shims Shims, logger *slog.Logger, drivers ...Driver) (*Supervisor, error) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open instances: %w", err)
	}
	s := &Supervisor{dir: dir, shims: shims, logger: logger, drivers: map[tee.Kind]Driver{}, keepers: map[string]*keeper{}}
	for _, d := range drivers {
		s.drivers[d.Kind()] = d
	}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open instances: %w", err)
	}
	for _, e := range entries {
		d := Dir(filepath.Join(dir, e.Name()))
		intent, err := d.ReadIntent()
		switch {
		case err == nil:
			s.keep(d, intent)
		case errors.Is(err, os.ErrNotExist) && !Locked(d.Lock()):
			logger.InfoContext(ctx, "half-made instance removed", slog.String("dir", e.Name()))
			_ = os.RemoveAll(string(d))
		default:
			logger.ErrorContext(ctx, "instance directory left alone", slog.String("dir", e.Name()), slog.Any("error", err))
		}
	}
	return s, nil
}

// Detach stops supervising and leaves all instances running.
func (s *Supervisor) Detach() {
	s.cancel()
	s.wg.Wait()
}

// Shutdown ends all instances, without forgetting that they should run, the
// node last.
func (s *Supervisor) Shutdown(ctx context.Context) {
	s.cancel()
	s.wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	var wg sync.WaitGroup
	for name, k := range s.keepers {
		if name != NodeName {
			wg.Go(func() { s.end(ctx, k) })
		}
	}
	wg.Wait()
	if k, ok := s.keepers[NodeName]; ok {
		s.end(ctx, k)
	}
}

// end stops an instance and waits until nothing of it is left. One that is
// restarted on failure is meant to run: the next supervisor starts it again.
func (s *Supervisor) end(ctx context.Context, k *keeper) {
	if !Locked(k.dir.Lock()) {
		return
	}
	for ctx.Err() == nil && Locked(k.dir.Lock()) {
		end(ctx, s.shims.Stop, k.dir)
	}
	if k.intent.Want == WantRunning && k.intent.Spec.Restart == RestartOnFailure {
		k.intent.Epoch++
		if err := k.dir.WriteIntent(k.intent); err != nil {
			s.logger.ErrorContext(ctx, "instance will not start again by itself", slog.String("instance", k.name()), slog.Any("error", err))
		}
	}
}

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
	expected, err := driver.Expect(c.Spec.Launch)
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
	intent := Intent{ID: id, Name: c.Name, Created: time.Now().UTC(), Spec: c.Spec, Expected: expected, Want: WantStopped}
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
		if err := StoreFile(d.Image(), c.Image, launch.MaxImage); err != nil {
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

// Get returns the instance called name.
func (s *Supervisor) Get(name string) (Instance, error) {
	k, err := s.find(name)
	if err != nil {
		return Instance{}, err
	}
	return k.instance(), nil
}

// Dir returns the directory of the instance called name.
func (s *Supervisor) Dir(name string) (Dir, error) {
	k, err := s.find(name)
	if err != nil {
		return "", err
	}
	return k.dir, nil
}

// List returns all instances by name.
func (s *Supervisor) List() []Instance {
	s.mu.Lock()
	all := make([]Instance, 0, len(s.keepers))
	for _, k := range s.keepers {
		all = append(all, k.instance())
	}
	s.mu.Unlock()
	sort.Slice(all, func(i, j int) bool { return all[i].Name < all[j].Name })
	return all
}

// Start wants the instance called name running; a running one stays as it is.
func (s *Supervisor) Start(name string) error { return s.want(name, WantRunning) }

// Stop wants the instance called name stopped; its state directory stays.
func (s *Supervisor) Stop(name string) error { return s.want(name, WantStopped) }

// Delete ends the instance called name and removes everything of it.
func (s *Supervisor) Delete(name string) error {
	if name == NodeName {
		return fmt.Errorf("%w: the node holds the keys; to remove them too, stop the platform and remove its data directory", ErrState)
	}
	return s.want(name, WantDeleted)
}

func (s *Supervisor) want(name, what string) error {
	k, err := s.find(name)
	if err != nil {
		return err
	}
	return k.want(what)
}

// Wait returns the instance called name once done says so, or when it is gone
// ([ErrNotFound]) or ctx ends.
func (s *Supervisor) Wait(ctx context.Context, name string, done func(Instance) bool) (Instance, error) {
	k, err := s.find(name)
	if err != nil {
		return Instance{}, err
	}
	return k.wait(ctx, done)
}

func (s *Supervisor) find(name string) (*keeper, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.keepers[name]
	if !ok {
		return nil, ErrNotFound
	}
	return k, nil
}

func (s *Supervisor) keep(d Dir, intent Intent) {
	k := newKeeper(d, intent)
	k.status = d.ReadStatus()
	s.mu.Lock()
	s.keepers[intent.Name] = k
	s.mu.Unlock()
	s.run(k)
}

func (s *Supervisor) run(k *keeper) {
	s.wg.Go(func() {
		if k.run(s.ctx, s.shims, s.logger) {
			s.forget(k)
		}
	})
}

func (s *Supervisor) forget(k *keeper) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keepers[k.name()] == k {
		delete(s.keepers, k.name())
	}
	k.close()
}
