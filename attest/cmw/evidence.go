package cmw

import (
	"fmt"
	"mime"

	"github.com/cloister-cc/cloister/tee"
)

// The media types of [FromEvidence], see the package comment.
const (
	MediaTypeEvidence    = "application/vnd.cloister.evidence" // with the parameter tee
	MediaTypeEventLog    = "application/vnd.cloister.event-log"
	MediaTypeCertificate = "application/pkix-cert"
)

// EvidenceCollection is the type of the collections of [FromEvidence].
const EvidenceCollection = "tag:github.com,2026:cloister-cc/cloister/evidence"

const teeParameter = "tee"

// part is what the media type of a record says that its value is. It changes ev,
// or says why it cannot.
type part func(ev *tee.Evidence, parameters map[string]string, value []byte) error

// partOf returns how a media type is read, nil for one that is not.
func partOf(mediaType string) part {
	switch mediaType {
	case MediaTypeEvidence:
		return bareEvidence
	case mediaTypeTSMJSON:
		return tsmReport(readTSMJSON)
	case mediaTypeTSMCBOR:
		return tsmReport(readTSMCBOR)
	case MediaTypeCertificate:
		return func(ev *tee.Evidence, _ map[string]string, value []byte) error {
			ev.Certificates = append(ev.Certificates, value)
			return nil
		}
	case MediaTypeEventLog:
		return func(ev *tee.Evidence, _ map[string]string, value []byte) error {
			if ev.EventLog != nil {
				return unsupported("one event log", "two")
			}
			ev.EventLog = value
			return nil
		}
	}
	return nil
}

// Evidence returns the evidence that m holds: a record of evidence, or a
// collection of one such record with certificates and an event log beside it. It
// refuses everything else, as no part may go unseen. The kind is what the media
// type says, unproven. Errors are *tee.VerifyError: CodeUnsupported for what is
// not read here, CodeParse for what is malformed or too large.
func Evidence(m Message) (tee.Evidence, error) {
	var ev tee.Evidence
	records, err := recordsOf(m)
	if err != nil {
		return tee.Evidence{}, err
	}
	for _, r := range records {
		if err := r.addTo(&ev); err != nil {
			return tee.Evidence{}, err
		}
	}
	switch {
	case ev.Data == nil:
		return tee.Evidence{}, unsupported("a record of evidence", "none")
	case len(ev.Data) > tee.MaxEvidence:
		return tee.Evidence{}, tooLarge("evidence", tee.MaxEvidence, len(ev.Data))
	case len(ev.EventLog) > tee.MaxEventLog:
		return tee.Evidence{}, tooLarge("event log", tee.MaxEventLog, len(ev.EventLog))
	}
	return ev, nil
}

func recordsOf(m Message) ([]Record, error) {
	switch m := m.(type) {
	case Record:
		return []Record{m}, nil
	case Collection:
		out := make([]Record, 0, len(m.Items))
		for _, it := range m.Items {
			r, ok := it.Message.(Record)
			if !ok {
				return nil, unsupported("records in a collection", "a collection")
			}
			out = append(out, r)
		}
		return out, nil
	default:
		return nil, unsupported("a record or a collection", "none")
	}
}

// addTo adds what the record holds to ev.
func (r Record) addTo(ev *tee.Evidence) error {
	name, parameters, err := mime.ParseMediaType(r.MediaType)
	read := partOf(name)
	if err != nil || read == nil {
		return unsupported("a media type of evidence, a certificate or an event log", "another")
	}
	want := EvidenceIndicator
	if name == MediaTypeCertificate {
		want = Endorsements
	}
	if r.Indicators != 0 && r.Indicators != want {
		return unsupported(fmt.Sprintf("indicators %d, or none", want), fmt.Sprint(r.Indicators))
	}
	return read(ev, parameters, r.Value)
}

// claim makes data the evidence if nothing is yet.
func claim(ev *tee.Evidence, kind tee.Kind, data []byte) error {
	if ev.Data != nil {
		return unsupported("one record of evidence", "two")
	}
	ev.Kind, ev.Data = kind, data
	return nil
}

func bareEvidence(ev *tee.Evidence, parameters map[string]string, value []byte) error {
	kind, err := tee.ParseKind(parameters[teeParameter])
	if err != nil || len(parameters) != 1 {
		return unsupported("the parameter tee with a known TEE", "another")
	}
	return claim(ev, kind, value)
}

// FromEvidence wraps evidence: a record, or, where certificates or an event log
// go with it, a collection. [Evidence] gives it back. It refuses evidence that
// names no TEE.
func FromEvidence(ev tee.Evidence) (Message, error) {
	if _, err := tee.ParseKind(string(ev.Kind)); err != nil {
		return nil, malformed("evidence: no known TEE")
	}
	record := Record{
		MediaType: mime.FormatMediaType(MediaTypeEvidence, map[string]string{teeParameter: string(ev.Kind)}),
		Value:     ev.Data, Indicators: EvidenceIndicator,
	}
	var m Message = record
	if len(ev.Certificates) > 0 || len(ev.EventLog) > 0 {
		m = collect(record, ev)
	}
	return m, m.validate(&count{})
}

func collect(record Record, ev tee.Evidence) Collection {
	c := Collection{Type: EvidenceCollection, Items: []Item{{Label: Label{Text: "evidence"}, Message: record}}}
	for i, cert := range ev.Certificates {
		// Two digits, so that they keep their order.
		c.Items = append(c.Items, Item{Label: Label{Text: fmt.Sprintf("certificate-%02d", i)}, Message: Record{
			MediaType: MediaTypeCertificate, Value: cert, Indicators: Endorsements,
		}})
	}
	if len(ev.EventLog) > 0 {
		c.Items = append(c.Items, Item{Label: Label{Text: "event-log"}, Message: Record{
			MediaType: MediaTypeEventLog, Value: ev.EventLog, Indicators: EvidenceIndicator,
		}})
	}
	sortItems(c.Items)
	return c
}

func unsupported(want, got string) error {
	return tee.Refuse("", tee.CodeUnsupported, "cmw", want, got, "")
}

func tooLarge(what string, most, got int) error {
	return tee.Refuse("", tee.CodeParse, what, fmt.Sprintf("at most %d bytes", most), fmt.Sprint(got), "")
}
