package agent

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/channel"
	"github.com/cloister-cc/cloister/compute/link"
	"github.com/cloister-cc/cloister/internal/problem"
	"github.com/cloister-cc/cloister/keys"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/cloister-cc/cloister/tee/software"
)

// How long the agent tries to reach the node before it gives up.
const (
	nodePatience = 30 * time.Second
	nodeRetry    = 50 * time.Millisecond
	callTimeout  = 20 * time.Second
)

// attest proves this instance to the node and takes its secrets. The node's own
// instance has nobody above it: it only shows evidence.
func (a *agent) attest() (link.Event, error) {
	go a.watchTEE()
	if a.doc.Role == launch.RoleNode {
		ev, err := a.tee.Evidence(context.Background(), DescribeBinding(nil, a.identity.LaunchDigest, a.identity.InstanceID))
		return link.Event{State: link.Ready, Evidence: &ev}, err
	}
	recipient, private, err := keys.NewRecipient()
	if err != nil {
		return link.Event{}, err
	}
	if private, err = a.vault.put(private); err != nil {
		return link.Event{}, err
	}
	c := &nodeClient{agent: a, recipient: recipient, private: private}
	c.http = &http.Client{Timeout: callTimeout, Transport: &http.Transport{DialTLSContext: c.dial, MaxIdleConnsPerHost: 1, IdleConnTimeout: 30 * time.Second}}
	first, err := c.patiently()
	if err != nil {
		return link.Event{}, err
	}
	if len(a.doc.Secrets) > 0 {
		go c.renew(first.response)
	}
	return first.event(link.Ready), nil
}

// watchTEE ends the program when the TEE is gone: a platform that was reset
// answers no more, and nothing this instance says can be proven again.
func (a *agent) watchTEE() {
	ticker := time.NewTicker(2 * time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-a.ended:
			return
		case <-ticker.C:
		}
		if a.tee.lost(context.Background()) {
			a.endProgram(&failure{code: "platform_lost", err: errors.New("the TEE was reset under the instance"), hint: "start the instance again"})
			return
		}
	}
}

// nodeClient speaks to the node, which it knows by what it runs: the same
// release of this program in the role of the node, on the same vendor's roots.
type nodeClient struct {
	agent     *agent
	http      *http.Client
	recipient keys.Recipient
	private   []byte // in the vault
}

// granted is a release with the evidence that it was given for.
type granted struct {
	evidence tee.Evidence
	response keys.ReleaseResponse
}

func (g granted) event(state string) link.Event {
	return link.Event{State: state, Evidence: &g.evidence, Token: g.response.Token, Lease: g.response.Expires.Unix()}
}

// dial opens a stream through the host and proves who is at its end.
func (c *nodeClient) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	s, _, err := c.agent.link.Open(link.Request{Op: link.OpDial, Name: "node"})
	if err != nil {
		return nil, err
	}
	return channel.Client(ctx, s, nil, channel.Config{Appraise: c.appraiseNode})
}

// nodeTrust is what this instance believes about its node. Making it takes
// milliseconds, so it is made while the instance waits for other things.
type nodeTrust struct {
	roots     tee.Roots
	verifier  *attest.Verifier
	appraiser *attest.Appraiser
}

func (a *agent) prepareNode() (nodeTrust, error) {
	root, err := x509.ParseCertificate(a.trust.Root)
	if err != nil {
		return nodeTrust{}, fmt.Errorf("parse root certificate: %w", err)
	}
	appraiser, err := attest.Compile(NodePolicy([32]byte(a.trust.Runtime)))
	return nodeTrust{tee.Roots{root}, attest.NewVerifier(software.New()), appraiser}, err
}

// appraiseNode accepts only the node of this very release.
func (c *nodeClient) appraiseNode(ev tee.Evidence, reportData [64]byte) (*attest.Verified, error) {
	t, err := c.agent.node()
	if err != nil {
		return nil, err
	}
	v, err := t.verifier.Verify(ev, tee.Input{Roots: t.roots, At: time.Now()}, attest.BindTo(reportData))
	if err != nil {
		return nil, err
	}
	return v, t.appraiser.Appraise(v)
}

// NodePolicy accepts the node of the software TEE that runs a program with this
// runtime digest: any launch of it in that role, but none with debug.
func NodePolicy(runtime [32]byte) attest.Policy {
	return attest.Policy{
		Version: 1, Name: "node of this release", Accept: []tee.Kind{tee.Software}, AllowSimulated: true,
		Measurements: []string{attest.Any}, TCB: []string{attest.Any},
		Rules: []attest.Rule{
			{Name: "role", Expr: `claims.software.role == "node"`, Code: "role", Hint: "this is not a node"},
			{Name: "release", Expr: fmt.Sprintf(`claims.software.runtime_digest == "%x"`, runtime), Code: "runtime", Hint: "the node runs another build of cloister than this one"},
		},
	}
}

// patiently asks for the release until the node answers; a refusal is final.
func (c *nodeClient) patiently() (granted, error) {
	deadline := time.Now().Add(nodePatience)
	for {
		g, err := c.release(false)
		if err == nil {
			return g, nil
		}
		if refusal(err) || time.Now().After(deadline) {
			f := asFailure(err)
			if len(g.evidence.Data) > 0 {
				f.evidence = &g.evidence // so that the host can say what differs
			}
			return g, f
		}
		time.Sleep(nodeRetry) //nolint:forbidigo // the node tells nobody when it is back
	}
}

// refusal reports whether asking again cannot help.
func refusal(err error) bool {
	if p, ok := errors.AsType[*problem.Problem](err); ok {
		return p.Status < 500 && p.Code != "nonce"
	}
	if _, ok := errors.AsType[*failure](err); ok {
		return true
	}
	return errors.Is(err, tee.ErrNotVerified) || errors.Is(err, attest.ErrRefused)
}

func asFailure(err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	if p, ok := errors.AsType[*problem.Problem](err); ok {
		return &failure{code: p.Code, err: fmt.Errorf("the node refused: %w", err), hint: p.Hint, failures: p.Failures}
	}
	if refusal(err) {
		return &failure{code: "node_refused", err: fmt.Errorf("the node did not prove itself: %w", err), failures: attest.Failures(err)}
	}
	return &failure{code: "node_unavailable", err: fmt.Errorf("reach the node: %w", err), hint: "does the platform run? cloister instance describe node"}
}

// release asks for this instance's secrets, or renews their lease.
func (c *nodeClient) release(renew bool) (granted, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	if err := c.agent.tee.enrol(ctx, func(path string, body, into any) error { return c.call(ctx, http.MethodPost, path, body, into) }); err != nil {
		return granted{}, err
	}
	var nonce struct {
		Nonce []byte `json:"nonce"`
	}
	if err := c.call(ctx, http.MethodPost, "/v1/nonce", nil, &nonce); err != nil {
		return granted{}, err
	}
	id := c.agent.identity
	ev, err := c.agent.tee.Evidence(ctx, keys.ReleaseBinding(nonce.Nonce, c.recipient.PublicKey(), id.LaunchDigest, id.InstanceID))
	if err != nil {
		return granted{}, err
	}
	req := keys.ReleaseRequest{Nonce: nonce.Nonce, Evidence: ev, PublicKey: c.recipient.PublicKey(), Renew: renew, Boot: c.agent.tee.boot()}
	for _, s := range c.agent.doc.Secrets {
		req.Keys = append(req.Keys, s.Key)
	}
	g := granted{evidence: ev}
	if err := c.call(ctx, http.MethodPost, "/v1/release", req, &g.response); err != nil {
		return g, err
	}
	if !renew {
		err = c.keep(nonce.Nonce, g.response.Keys)
	}
	return g, err
}

// keep unwraps released keys into the vault.
func (c *nodeClient) keep(nonce []byte, wrapped []keys.WrappedKey) error {
	a := c.agent
	if len(wrapped) != len(a.doc.Secrets) {
		return errors.New("the node sent another number of keys than was asked for")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, s := range a.doc.Secrets {
		if wrapped[i].Name != s.Key {
			return errors.New("the node sent another key than was asked for")
		}
		value, err := keys.Unwrap(c.private, nonce, wrapped[i])
		if err != nil {
			return err
		}
		if a.secrets[s.Name], err = a.vault.put(value); err != nil {
			return err
		}
	}
	return nil
}

// renew renews the lease with fresh evidence, halfway through each time, until
// it is refused or runs out; then the program ends, and with it every copy of
// the secrets.
func (c *nodeClient) renew(r keys.ReleaseResponse) {
	// time.Now carries the monotonic clock: setting the wall clock back does not
	// make a lease longer.
	lease := func(r keys.ReleaseResponse) time.Time {
		return time.Now().Add(time.Duration(r.LeaseSeconds) * time.Second)
	}
	expires := lease(r)
	for {
		pause := time.Until(expires) / 2
		select {
		case <-c.agent.ended:
			return
		case <-time.After(max(pause, time.Second)):
		}
		g, err := c.release(true)
		switch {
		case err == nil:
			expires = lease(g.response)
			c.agent.report(g.event(link.Renewed))
		case refusal(err):
			f := &failure{code: "lease_refused", err: errors.New("the lease of the secrets was not renewed"), hint: "a release policy no longer accepts this instance"}
			f.failures = attest.Failures(err)
			if p, ok := errors.AsType[*problem.Problem](err); ok {
				f.failures = p.Failures
			}
			c.agent.endProgram(f)
			return
		case !time.Now().Before(expires.Add(-time.Second)):
			c.agent.endProgram(&failure{code: "lease_expired", err: fmt.Errorf("the lease ran out: %w", err), hint: "the node did not answer in time"})
			return
		}
	}
}

// maxAnswer bounds an answer of the node in bytes.
const maxAnswer = 16 << 20

func (c *nodeClient) call(ctx context.Context, method, path string, body, into any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, "https://node"+path, bytes.NewReader(b))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return problem.Read(resp)
	}
	return json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(into)
}
