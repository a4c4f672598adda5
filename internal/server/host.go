package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cloister-cc/cloister/attest/collateral"
	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/compute/qemu"
	"github.com/cloister-cc/cloister/compute/shim"
	csoftware "github.com/cloister-cc/cloister/compute/software"
	"github.com/cloister-cc/cloister/internal/datadir"
	"github.com/cloister-cc/cloister/internal/portal"
	"github.com/cloister-cc/cloister/internal/tap"
	"github.com/cloister-cc/cloister/internal/unixsock"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/cloister-cc/cloister/tee/software"
)

// Config says what to run.
type Config struct {
	// Data is the data directory; it is made when it does not exist.
	Data string
	// Listen is the TCP address of the node's HTTPS face, for example
	// "127.0.0.1:7443"; port 0 takes a free one.
	Listen string
	// Logger receives what happens; nil discards.
	Logger *slog.Logger
	// Record is where everything that passes between the processes of the
	// platform and its clients is recorded; empty records nothing.
	Record tap.Dir
	// Sources are the services from which collateral is fetched when the node
	// wants some, and before it goes stale. Nil fetches nothing: then the node has
	// what is imported into the data directory.
	Sources *collateral.Sources
	// KeepVerdicts is which verdicts the node keeps records of, in its state
	// directory (see package attest/record), from when it next starts; empty means
	// those that led to the release of a key.
	KeepVerdicts datadir.Keep
	// Quotas bound what the instances of projects take together.
	Quotas compute.Quotas
	// Kernel is the file of the kernel that virtual machines boot; empty means the
	// newest that is installed.
	Kernel string
	// Portal is the web portal; the zero value serves none.
	Portal PortalConfig
	// Ready, when set, is called once the node is attested and serves.
	Ready func(client.Platform)
}

// ErrInUse means that another supervisor runs on the data directory.
var ErrInUse = errors.New("another `cloister up` runs on this data directory")

// Host is a running platform.
type Host struct {
	paths      datadir.Paths
	cfg        Config
	logger     *slog.Logger
	supervisor *compute.Supervisor
	driver     *csoftware.Driver
	drivers    []compute.Driver // all of them, the default first
	info       client.Platform

	portal      *portal.Portal // nil without one
	portalMoved bool           // it has another port than it was given
	created     chan struct{}  // an instance was created; nil without a portal
}

// Run runs a platform until ctx ends, then stops its instances and returns.
// Killed instead, it leaves them running, and the next Run adopts them.
func Run(ctx context.Context, cfg Config) error {
	h := &Host{cfg: cfg, logger: cfg.Logger}
	if h.logger == nil {
		h.logger = slog.New(slog.DiscardHandler)
	}
	data, err := filepath.Abs(cfg.Data)
	if err != nil {
		return err
	}
	h.paths = datadir.Paths{Data: data}
	dirs := []string{data, filepath.Dir(h.paths.API())}
	if cfg.Record != "" {
		dirs = append(dirs, string(cfg.Record))
	}
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make data directory: %w", err)
		}
	}
	lock, err := lockSoon(ctx, h.paths.Lock())
	if errors.Is(err, compute.ErrLocked) {
		return ErrInUse
	}
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	return h.serve(ctx)
}

// lockPatience is how long a killed supervisor may go on holding its lock: a child
// that it forked, and that has not become another program yet, has a copy.
const lockPatience = time.Second

// lockSoon takes the lock, within lockPatience if somebody holds it.
func lockSoon(ctx context.Context, path string) (*os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	for {
		lock, err := compute.Lock(path)
		if !errors.Is(err, compute.ErrLocked) {
			return lock, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (h *Host) serve(ctx context.Context) error {
	watch, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	platform, err := keepPlatform(watch, h.paths, h.cfg.Record, h.logger)
	if err != nil {
		return err
	}
	h.driver = csoftware.New(h.paths.PlatformSocket())
	if err := h.paths.SetKernel(h.cfg.Kernel); err != nil {
		return fmt.Errorf("tell the owners of machines which kernel to boot: %w", err)
	}
	machines := qemu.New(qemu.Config{Platform: h.paths.PlatformSocket(), Cache: h.paths.Machines(), Kernel: h.cfg.Kernel})
	h.drivers = []compute.Driver{h.driver, machines}
	h.supervisor, err = compute.Open(ctx, h.paths.Instances(), shim.Processes{Record: h.cfg.Record}, h.logger, h.drivers...)
	if err != nil {
		return err
	}
	h.supervisor.Limit(h.cfg.Quotas)
	defer h.stop(stopWatching)
	if err := h.ensureNode(ctx); err != nil {
		return err
	}
	tcp, err := net.Listen("tcp", h.cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen for clients: %w", err)
	}
	defer func() { _ = tcp.Close() }()
	if err := h.describe(tcp.Addr().String(), platform); err != nil {
		return err
	}
	api, err := unixsock.Listen(h.paths.API())
	if err != nil {
		return err
	}
	server := &http.Server{Handler: h.routes(), ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	failed := make(chan error, 3)
	endPortal, err := h.servePortal(ctx, failed)
	if err != nil {
		return err
	}
	defer endPortal()
	go func() { failed <- server.Serve(sameUser{api, h.cfg.Record}) }()
	go func() { failed <- h.forward(ctx, tcp) }()
	carry, stopCourier := context.WithCancel(ctx)
	var courier sync.WaitGroup
	courier.Go(func() { h.newCourier().run(carry) })
	defer func() { stopCourier(); courier.Wait() }()
	defer func() { _ = server.Close() }()
	if h.cfg.Ready != nil {
		h.cfg.Ready(h.info)
	}
	h.announcePortal()
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

// stopTimeout bounds an orderly end.
const stopTimeout = 20 * time.Second

func (h *Host) stop(stopWatching func()) {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	h.supervisor.Shutdown(ctx)
	stopWatching()
	if err := stopPlatform(h.paths); err != nil {
		h.logger.ErrorContext(ctx, "software TEE platform not stopped", slog.Any("error", err))
	}
}

// nodeReady bounds how long the node may take to be attested.
const nodeReady = time.Minute

// ensureNode makes the node's instance the first time and waits until it is
// attested.
func (h *Host) ensureNode(ctx context.Context) error {
	if _, err := h.supervisor.Get(compute.NodeName); errors.Is(err, compute.ErrNotFound) {
		_, err := h.supervisor.Create(ctx, compute.Create{
			Name: compute.NodeName,
			Spec: compute.Spec{TEE: tee.Software, Launch: NodeLaunch(), Restart: compute.RestartAlways},
		})
		if err != nil {
			return err
		}
	}
	if err := h.paths.WriteKeep(cmp.Or(h.cfg.KeepVerdicts, datadir.KeepReleases)); err != nil {
		return fmt.Errorf("tell the node which verdicts to keep: %w", err)
	}
	if err := h.supervisor.Start(compute.NodeName); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, nodeReady)
	defer cancel()
	node, err := h.waitServing(ctx, compute.NodeName)
	if err != nil || node.Status.State != compute.Running || ctx.Err() != nil {
		return &tee.Error{Code: tee.CodeUnavailable, Op: "start node", Hint: cmp.Or(node.Status.Hint, "see "+compute.Dir(filepath.Join(h.paths.Instances(), compute.NodeName)).Log()),
			Err: fmt.Errorf("it is %s: %s %s", node.Status.State, node.Status.Code, node.Status.Message)}
	}
	return nil
}

// NodeLaunch is the launch document of the node: the same on every platform.
func NodeLaunch() launch.Document {
	d := launch.NewBuiltin(launch.RoleNode)
	d.Ports = []uint16{compute.NodePort, compute.HostPort}
	d.MemoryMiB = 512
	d.Logs = launch.LogsStderr
	return d
}

func (h *Host) describe(address string, platform software.PlatformInfo) error {
	root, err := os.ReadFile(h.paths.Root())
	if err != nil {
		return err
	}
	digest, err := NodeLaunch().Digest()
	if err != nil {
		return err
	}
	h.info = client.Platform{
		Address: address, Root: root, Simulated: true, PID: os.Getpid(),
		NodeMeasurement: software.Expect(platform.RuntimeDigest, digest),
	}
	return nil
}

// sameUser drops connections of other users.
type sameUser struct {
	*net.UnixListener
	record tap.Dir
}

func (l sameUser) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if unixsock.SamePeer(c) == nil {
			return l.record.Conn("api", c), nil
		}
		_ = c.Close()
	}
}
