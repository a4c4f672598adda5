// Package datadir names the places in a data directory.
package datadir

import "path/filepath"

// Paths are the places in a data directory.
type Paths struct{ Data string }

// Lock is held by the supervisor.
func (p Paths) Lock() string { return filepath.Join(p.Data, "lock") }

// Platform is the directory of the software TEE's platform.
func (p Paths) Platform() string { return filepath.Join(p.Data, "platform") }

// PlatformSocket is where that platform answers.
func (p Paths) PlatformSocket() string { return filepath.Join(p.Data, "run", "platform.sock") }

// PlatformLog is what the platform prints.
func (p Paths) PlatformLog() string { return filepath.Join(p.Data, "run", "platform.log") }

// Root is the development root certificate, PEM.
func (p Paths) Root() string { return filepath.Join(p.Platform(), "root.pem") }

// Instances holds one directory per instance.
func (p Paths) Instances() string { return filepath.Join(p.Data, "instances") }

// Collateral is what vendors publish about platforms, for the node.
func (p Paths) Collateral() string { return filepath.Join(p.Data, "collateral") }

// NodeState is the state directory of the node.
func (p Paths) NodeState() string { return filepath.Join(p.Instances(), "node", "state") }

// Machines has what virtual machines boot.
func (p Paths) Machines() string { return filepath.Join(p.Data, "machines") }

// API is the socket of the host's API.
func (p Paths) API() string { return filepath.Join(p.Data, "run", "api.sock") }

// Of returns the data directory that an instance directory is in.
func Of(instanceDir string) Paths { return Paths{filepath.Dir(filepath.Dir(instanceDir))} }
