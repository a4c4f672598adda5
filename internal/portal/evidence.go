package portal

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net/http"
	"time"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/tee"
)

// evidenceTime bounds how long a page waits for an instance's evidence.
const evidenceTime = 10 * time.Second

// evidencePage is what an instance shows of itself, and what this host makes of
// it.
type evidencePage struct {
	Any      bool // there is evidence to show
	Evidence tee.Evidence
	Raw      string // base64
	Fresh    bool   // over a nonce of this page
	Nonce    string
	// Why says why there is no fresh evidence.
	Why     string
	Verdict verdict
	Tree    []branch
	Chain   []certificate
	Roots   []certificate
	Own     commands
}

func (p *Portal) evidence(w http.ResponseWriter, r *http.Request) error {
	i, err := p.instance(r)
	if err != nil {
		return err
	}
	ev, reportData, b := p.obtain(r.Context(), i)
	if b.Any {
		in := p.cfg.Host.Trust(r.Context(), ev)
		in.At = p.cfg.Now()
		b.Evidence, b.Raw = ev, base64.StdEncoding.EncodeToString(ev.Data)
		b.Verdict = p.judge(i, ev, in, reportData)
		if v := b.Verdict.verified; v != nil {
			b.Tree = tree(v.Claims.Tree())
		}
		b.Chain = certificates(chainOf(ev), in.At)
		b.Roots = rootsOf(in.Roots, in.At)
	}
	b.Own = p.ownCommands(i)
	return p.tab(w, r, i, "evidence", "evidence", 0, b)
}

// obtain asks a running instance for fresh evidence, and takes what it showed when
// it became ready when there is none.
func (p *Portal) obtain(ctx context.Context, i compute.Instance) (tee.Evidence, *[64]byte, evidencePage) {
	var b evidencePage
	switch i.Status.State {
	case compute.Running:
		ctx, cancel := context.WithTimeout(ctx, evidenceTime)
		defer cancel()
		nonce := make([]byte, 32)
		_, _ = rand.Read(nonce) // never fails
		ev, reportData, err := p.cfg.Host.Evidence(ctx, i.Name, nonce)
		if err == nil {
			b.Any, b.Fresh, b.Nonce = true, true, base64.RawURLEncoding.EncodeToString(nonce)
			return ev, &reportData, b
		}
		b.Why = "the instance gave no fresh evidence"
		if errors.Is(err, context.DeadlineExceeded) {
			b.Why += " in time"
		}
	case compute.Pending, compute.Preparing, compute.Attesting:
		b.Why = "the instance is still starting"
	default:
		b.Why = "the instance does not run"
	}
	if i.Status.Evidence == nil {
		return tee.Evidence{}, nil, b
	}
	b.Any = true
	return *i.Status.Evidence, nil, b
}
