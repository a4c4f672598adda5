package record

import (
	"sync"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/tee"
)

// Impact is a past verdict that other collateral would change.
type Impact struct {
	Name     string        `json:"name"`
	TEE      tee.Kind      `json:"tee"`
	Platform string        `json:"platform"`
	At       time.Time     `json:"at"`
	TCBWas   tee.TCBStatus `json:"tcb_was"`
	TCBIs    tee.TCBStatus `json:"tcb_is"`
	Refused  []Failure     `json:"refused"`
	TokenID  string        `json:"token_id"`
}

// Impact judges a case that was accepted as if its evidence came today: at the
// time at, with the certificates that it came with, and with the collateral and
// revocation lists that are given in place of its own. The result is nil if it
// would still be accepted, or was not then.
func (a *Archive) Impact(v *attest.Verifier, name string, today tee.Endorsements, at time.Time) (*Impact, error) {
	b, err := a.bytes(name)
	if err != nil {
		return nil, err
	}
	return newSurvey(a, v, today, at).impact(name, b)
}

// brief is what a survey needs of a record.
type brief struct {
	Version      int           `json:"version"`
	Evidence     string        `json:"evidence"`
	Endorsements string        `json:"endorsements"`
	Policy       string        `json:"policy"`
	ReportData   string        `json:"report_data"`
	Request      string        `json:"request"`
	At           time.Time     `json:"at"`
	TEE          tee.Kind      `json:"tee"`
	Accepted     bool          `json:"accepted"`
	TCB          tee.TCBStatus `json:"tcb_status"`
	TokenID      string        `json:"token_id"`
	Claims       struct {
		Platform string `json:"platform"`
	} `json:"claims"`
}

// survey judges records with today's collateral. What a verdict of today depends on
// is the evidence, the certificates and roots that it came with, the policy, the
// report data and a provider's request, and nothing else of a record, as time and
// collateral are the same for all: records that name the same five have one verdict,
// which is reached once.
// It is safe for concurrent use.
type survey struct {
	archive  *Archive
	verifier *attest.Verifier
	today    tee.Endorsements
	at       time.Time

	verdicts once[question, verdict]
	inputs   once[string, tee.Input]
	policies once[string, appraisal]
}

// question is what a verdict depends on, by the names that records have for it.
type question struct{ evidence, endorsements, policy, reportData, request string }

// verdict is the answer. failures are empty if the case would be accepted.
type verdict struct {
	tcb      tee.TCBStatus
	failures []Failure
}

// appraisal is a policy and what became of it.
type appraisal struct {
	policy   *attest.Policy
	compiled compiled
}

func newSurvey(a *Archive, v *attest.Verifier, today tee.Endorsements, at time.Time) *survey {
	s := &survey{archive: a, verifier: v, today: today, at: at}
	s.verdicts.limit, s.inputs.limit, s.policies.limit = 1<<18, 64, 64
	return s
}

// impact judges the record of that name and canonical form.
func (s *survey) impact(name string, b []byte) (*Impact, error) {
	var was brief
	if err := decodeRecord(name, b, &was); err != nil {
		return nil, err
	}
	if was.Version != version {
		return nil, errAltered(name)
	}
	if !was.Accepted {
		return nil, nil
	}
	q := question{was.Evidence, was.Endorsements, was.Policy, was.ReportData, was.Request}
	is, err := s.verdicts.get(q, func() (verdict, error) { return s.judge(q) })
	if err != nil || len(is.failures) == 0 {
		return nil, err
	}
	return &Impact{
		Name: name, TEE: was.TEE, Platform: was.Claims.Platform, At: was.At, TCBWas: was.TCB, TCBIs: is.tcb, Refused: is.failures, TokenID: was.TokenID,
	}, nil
}

// judge reaches the verdict of today.
func (s *survey) judge(q question) (verdict, error) {
	var ready compiled
	c, err := s.archive.given(q, func(name string) (*attest.Policy, error) {
		p, err := s.policies.get(name, func() (appraisal, error) {
			p, err := s.archive.policy(name)
			return appraisal{p, compile(p)}, err
		})
		ready = p.compiled
		return p.policy, err
	})
	if err != nil {
		return verdict{}, err
	}
	if c.Input, err = s.inputs.get(q.endorsements, func() (tee.Input, error) { return s.input(q.endorsements) }); err != nil {
		return verdict{}, err
	}
	c.Evidence.Kind = s.verifier.KindOf(c.Evidence)
	verified, refusal := judge(s.verifier, c, ready)
	is := verdict{failures: withoutHints(failuresOf(refusal))}
	if verified != nil {
		is.tcb = verified.Claims.TCB
	}
	return is, nil
}

// input is what evidence came with, as it is today.
func (s *survey) input(name string) (tee.Input, error) {
	in, err := s.archive.endorsements(name)
	if err != nil {
		return tee.Input{}, err
	}
	in.At = s.at
	in.Endorsements.CRLs, in.Endorsements.Collateral = s.today.CRLs, s.today.Collateral
	in.Endorsements.Certificates = append(append([][]byte(nil), in.Endorsements.Certificates...), s.today.Certificates...)
	return in, nil
}

// once remembers what a function gave for each key, and calls it once also for
// those who ask at the same time. It forgets everything when it holds limit keys:
// that costs time and changes no answer.
type once[K comparable, V any] struct {
	limit int
	mu    sync.Mutex
	known map[K]*answer[V]
}

type answer[V any] struct {
	once  sync.Once
	value V
	err   error
}

func (o *once[K, V]) get(key K, f func() (V, error)) (V, error) {
	o.mu.Lock()
	a, ok := o.known[key]
	if !ok {
		if o.known == nil || len(o.known) >= o.limit {
			o.known = make(map[K]*answer[V])
		}
		a = &answer[V]{}
		o.known[key] = a
	}
	o.mu.Unlock()
	a.once.Do(func() { a.value, a.err = f() })
	return a.value, a.err
}
