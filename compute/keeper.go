package compute

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/cloister-cc/cloister/tee"
)

// keeper keeps one instance in line with its intent.
type keeper struct {
	dir    Dir
	wake   chan struct{} // the intent changed
	mu     sync.Mutex
	intent Intent
	status Status
	change chan struct{} // closed and replaced at every change
	gone   bool
}

func newKeeper(d Dir, intent Intent) *keeper {
	return &keeper{dir: d, intent: intent, wake: make(chan struct{}, 1), change: make(chan struct{}), status: Status{State: Pending, Since: time.Now().UTC()}}
}

func (k *keeper) name() string { return k.intent.Name } // never changes

func (k *keeper) instance() Instance {
	k.mu.Lock()
	defer k.mu.Unlock()
	i := k.intent
	return Instance{
		ID: i.ID, Name: i.Name, Created: i.Created, Spec: i.Spec, Expected: i.Expected, ExpectedRegisters: i.ExpectedRegisters, Status: k.status,
		Simulated: i.Simulated || i.Spec.TEE == tee.Software, // an older release did not write it down
	}
}

// want changes and commits the intent. A start of something that has ended is a
// new epoch.
func (k *keeper) want(what string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	next := k.intent
	if next.Want == WantDeleted && what != WantDeleted {
		return fmt.Errorf("%w: it is being deleted", ErrState)
	}
	if what == WantRunning && (next.Want != WantRunning || k.ended()) {
		next.Epoch++
	}
	next.Want = what
	if next.Want == k.intent.Want && next.Epoch == k.intent.Epoch {
		return nil
	}
	if err := k.dir.WriteIntent(next); err != nil {
		return err
	}
	k.intent = next
	if what == WantRunning {
		k.status = Status{State: Pending, Since: time.Now().UTC(), Epoch: next.Epoch}
		k.announce()
	}
	select {
	case k.wake <- struct{}{}:
	default:
	}
	return nil
}

// ended reports whether the current epoch is over. The caller holds the lock.
func (k *keeper) ended() bool { return k.status.Epoch >= k.intent.Epoch && k.status.State.Final() }

// announce wakes everyone who waits for a change. The caller holds the lock.
func (k *keeper) announce() {
	close(k.change)
	k.change = make(chan struct{})
}

func (k *keeper) setStatus(s Status) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if s.Epoch < k.intent.Epoch {
		return // of a run that a later start has replaced
	}
	k.status = s
	k.announce()
}

func (k *keeper) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.gone = true
	k.announce()
}

func (k *keeper) wait(ctx context.Context, done func(Instance) bool) (Instance, error) {
	for {
		k.mu.Lock()
		gone, change := k.gone, k.change
		k.mu.Unlock()
		if gone {
			return Instance{}, ErrNotFound
		}
		if i := k.instance(); done(i) {
			return i, nil
		}
		select {
		case <-change:
		case <-ctx.Done():
			return k.instance(), ctx.Err()
		}
	}
}

// Pauses of the reconciler before a restart. What was lost to something outside
// starts again at once; what fails by itself has to wait longer each time.
const (
	lostPause    = 100 * time.Millisecond
	firstBackoff = time.Second
	maxBackoff   = 30 * time.Second
	calm         = 10 * time.Second // after which a failure counts as the first again
)

// lost reports whether an instance ended through no fault of its program.
func lost(s Status) bool {
	return s.Code == CodeShimLost || s.Code == CodeAgentLost || s.Code == CodePlatformLost
}

// run reconciles until ctx ends (false) or the instance is deleted (true).
func (k *keeper) run(ctx context.Context, shims Shims, logger *slog.Logger) bool {
	backoff := firstBackoff
	for ctx.Err() == nil {
		k.mu.Lock()
		intent := k.intent
		k.mu.Unlock()
		alive := Locked(k.dir.Lock())
		switch {
		case intent.Want == WantDeleted && !alive:
			if err := os.RemoveAll(string(k.dir)); err == nil {
				return true
			}
			k.pause(ctx, time.Second)
		case alive:
			k.attend(ctx, shims, intent)
		case intent.Want == WantRunning:
			k.advance(ctx, shims, logger, intent, &backoff)
		default:
			k.settle(intent)
			k.pause(ctx, 0)
		}
	}
	return false
}

// attend follows a living instance, and ends it when it should not live.
func (k *keeper) attend(ctx context.Context, shims Shims, intent Intent) {
	watch, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if shims.Watch(watch, k.dir, k.setStatus) != nil && watch.Err() == nil {
			time.Sleep(5 * time.Millisecond) //nolint:forbidigo // between lock and socket, or between death and unlock
		}
	}()
	defer func() { stop(); <-ended }()
	switch intent.Want {
	case WantDeleted:
		end(ctx, shims.Kill, k.dir)
		return
	case WantStopped:
		end(ctx, shims.Stop, k.dir)
		return
	}
	select {
	case <-ended: // or never reached: run looks again
	case <-k.wake:
	case <-ctx.Done():
	}
}

// advance takes a dead instance that should run one step: to its first start,
// to a restart, or to rest.
func (k *keeper) advance(ctx context.Context, shims Shims, logger *slog.Logger, intent Intent, backoff *time.Duration) {
	status := k.dir.ReadStatus()
	if status.Epoch < intent.Epoch {
		k.start(ctx, shims, logger)
		return
	}
	if !status.State.Final() {
		status.State, status.Code, status.ShimPID = Failed, CodeShimLost, 0
		status.Message = "the process that owned the instance was killed"
		status.Since = time.Now().UTC()
		_ = k.dir.WriteStatus(status)
	}
	k.setStatus(status)
	if !restarts(intent.Spec.Restart, status) {
		k.pause(ctx, 0)
		return
	}
	if time.Since(status.StartedAt) > calm {
		*backoff = firstBackoff
	}
	wait := *backoff
	if lost(status) {
		wait = lostPause
	} else {
		*backoff = min(2**backoff, maxBackoff)
	}
	if k.pause(ctx, wait) {
		return
	}
	k.mu.Lock()
	next := k.intent
	unchanged := next.Want == WantRunning && next.Epoch == intent.Epoch
	next.Epoch++
	if unchanged {
		if err := k.dir.WriteIntent(next); err == nil {
			k.intent = next
		}
	}
	k.mu.Unlock()
}

func restarts(r Restart, s Status) bool {
	switch r {
	case RestartAlways:
		return true
	case RestartOnFailure:
		return s.State == Failed
	default:
		return false
	}
}

// start starts a shim and waits until it has the lock, or has given up.
func (k *keeper) start(ctx context.Context, shims Shims, logger *slog.Logger) {
	if err := shims.Start(k.dir); err != nil {
		logger.ErrorContext(ctx, "shim not started", slog.String("instance", k.name()), slog.Any("error", err))
		k.pause(ctx, time.Second)
		return
	}
	for range 2000 {
		if Locked(k.dir.Lock()) || k.dir.ReadStatus().Epoch >= k.intentEpoch() || ctx.Err() != nil {
			return
		}
		time.Sleep(time.Millisecond) //nolint:forbidigo // a lock is taken without telling anybody
	}
}

func (k *keeper) intentEpoch() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.intent.Epoch
}

// settle makes the status of an instance that should not and does not run
// final.
func (k *keeper) settle(intent Intent) {
	status := k.dir.ReadStatus()
	if !status.State.Final() {
		status.State, status.ShimPID, status.Since = Stopped, 0, time.Now().UTC()
		if status.Epoch > 0 {
			status.Code = CodeStoppedRequest
		}
		status.Epoch = intent.Epoch
		_ = k.dir.WriteStatus(status)
	}
	k.setStatus(status)
}

// pause waits for d (0: for ever) or until the intent changes (true).
func (k *keeper) pause(ctx context.Context, d time.Duration) bool {
	var timer <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-k.wake:
		return true
	case <-timer:
		return false
	case <-ctx.Done():
		return true
	}
}

// end asks the owner of an instance to end it and waits a while for that. An
// owner that is just starting hears nothing yet, so the caller asks again as long
// as something runs.
func end(ctx context.Context, ask func(context.Context, Dir) error, d Dir) {
	ctx, cancel := context.WithTimeout(ctx, endPatience)
	defer cancel()
	if ask(ctx, d) != nil {
		time.Sleep(5 * time.Millisecond) //nolint:forbidigo // between lock and socket
		return
	}
	waitUnlocked(ctx, d)
}

// endPatience is how long an owner may take to end an instance before it is
// asked again.
const endPatience = 10 * time.Second

// waitUnlocked waits until nothing of the instance in d runs.
func waitUnlocked(ctx context.Context, d Dir) {
	for ctx.Err() == nil && Locked(d.Lock()) {
		time.Sleep(2 * time.Millisecond) //nolint:forbidigo // a lock is released without telling anybody
	}
}
