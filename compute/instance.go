package compute

import (
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
)

// State is where an instance is in its life.
type State string

// The states. Stopped and Failed are final until somebody starts the instance
// again; an instance is only Stopped or Failed after its processes are gone.
const (
	Pending   State = "pending"   // wanted, nothing started yet
	Preparing State = "preparing" // processes start, the image is loaded
	Attesting State = "attesting" // evidence is shown, secrets are asked for
	Running   State = "running"   // proven; the program runs
	Stopping  State = "stopping"
	Stopped   State = "stopped" // ended by itself with status 0, or on request
	Failed    State = "failed"  // ended otherwise; Code says why
)

// Final reports whether nothing of the instance runs any more.
func (s State) Final() bool { return s == Stopped || s == Failed }

// Restart says what happens when an instance ends by itself.
type Restart string

// The restart policies. The zero value means RestartNever.
const (
	RestartNever     Restart = "never"
	RestartOnFailure Restart = "on-failure" // not after status 0
	RestartAlways    Restart = "always"
)

// Spec is what should run.
type Spec struct {
	// TEE is the kind of TEE to run in.
	TEE tee.Kind `json:"tee"`
	// Project is whose quota the instance takes from; empty means [DefaultProject].
	Project string `json:"project,omitempty"`
	// Launch is the measured part.
	Launch launch.Document `json:"launch"`
	// Signature is the image signature of a signed launch.
	Signature []byte `json:"signature,omitempty"`
	// Env are the operator's values for the names in Launch.OperatorEnv.
	Env     map[string]string `json:"env,omitempty"`
	Restart Restart           `json:"restart,omitempty"`
	// Size is that of a virtual machine; the zero value is one that the launch
	// document fits into.
	Size Size `json:"size,omitzero"`
}

// Size is how large a virtual machine is. It is measured.
type Size struct {
	VCPUs     int `json:"vcpus"`
	MemoryMiB int `json:"memory_mib"`
}

// Instance is one confidential instance.
type Instance struct {
	ID      string    `json:"id"`   // never used again
	Name    string    `json:"name"` // unique while the instance exists
	Created time.Time `json:"created"`
	Spec    Spec      `json:"spec"`
	// Expected is the measurement computed before anything started, and
	// ExpectedRegisters what it is over, where it is over several.
	Expected          tee.Measurement   `json:"expected_measurement"`
	ExpectedRegisters map[string]string `json:"expected_registers,omitempty"`
	// Simulated says that its TEE is none.
	Simulated bool   `json:"simulated"`
	Status    Status `json:"status"`
}

// Status is what an instance does, as its host sees it. Nobody outside the host
// believes it; Evidence is the part that can be verified.
type Status struct {
	State State     `json:"state"`
	Since time.Time `json:"since"`
	// Epoch counts the starts of the instance.
	Epoch int `json:"epoch,omitempty"`
	// Code, Message, Hint and Failures say why an instance failed.
	Code     string        `json:"code,omitempty"`
	Message  string        `json:"message,omitempty"`
	Hint     string        `json:"hint,omitempty"`
	Failures []tee.Failure `json:"failures,omitempty"`
	// Differences say what of the evidence is not as expected.
	Differences []tee.Failure `json:"differences,omitempty"`
	// ExitCode is the program's status once it has ended by itself.
	ExitCode *int `json:"exit_code,omitempty"`
	// StartedAt and ReadyAt bracket the time from start to attested.
	StartedAt time.Time `json:"started_at,omitzero"`
	ReadyAt   time.Time `json:"ready_at,omitzero"`
	// Evidence is what the instance showed when it became ready, Token the
	// attestation result it got for it, Lease the end of its secrets' lease.
	Evidence *tee.Evidence `json:"evidence,omitempty"`
	Token    string        `json:"token,omitempty"`
	Lease    time.Time     `json:"lease,omitzero"`
	// ShimPID is the process that owns the instance on this host.
	ShimPID int `json:"shim_pid,omitempty"`
}

// Reason codes of a failed instance that this package gives; agents and the
// verifier add theirs.
const (
	CodeShimLost       = "shim_lost"       // the process that owned it was killed
	CodeAgentLost      = "agent_lost"      // the instance ended without a word
	CodeOutOfMemory    = "out_of_memory"   // killed at its memory limit
	CodeLaunchRefused  = "launch_refused"  // the TEE refused to measure it
	CodeSandbox        = "sandbox"         // the walls could not be put up
	CodeReadyTimeout   = "ready_timeout"   // not attested in time
	CodeStoppedRequest = "stopped"         // stopped on request
	CodeProgramStatus  = "program_status"  // the program ended with a status other than 0
	CodeProgramKilled  = "program_killed"  // a signal ended the program
	CodeDisk           = "disk"            // the host's disk refused a write
	CodeNoDriver       = "no_driver"       // this host cannot run that TEE
	CodePlatformLost   = "platform_lost"   // the TEE was reset under the instance
	CodeRestartBackoff = "restart_backoff" // waits before the next try
)

// The node of a platform: the instance that verifies evidence and keeps keys.
const (
	NodeName = "node"
	NodePort = 8443 // inside the instance; clients
	HostPort = 8444 // the same; its own host, which gives it collateral
)
