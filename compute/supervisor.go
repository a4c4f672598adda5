package compute

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sort"
	"sync"

	"github.com/cloister-cc/cloister/tee"
)

// Errors of a [Supervisor] that a caller can act on.
var (
	ErrNotFound = errors.New("no such instance")
	ErrExists   = errors.New("an instance of that name exists: delete it or choose another name")
	ErrRefused  = errors.New("refused before anything was started") // the text says why
	ErrState    = errors.New("not possible in the instance's state")
	ErrQuota    = errors.New("more than the project's quota")
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
	quotas  Quotas
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

// Limit sets the quotas of projects, for instances that are created from now on.
func (s *Supervisor) Limit(q Quotas) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quotas = q
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
