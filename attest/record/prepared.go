package record

// Prepared is a record with its case, in canonical form, on its way into an archive.
type Prepared struct {
	c    Case
	r    Record
	body []byte
	name string
}

// Prepare encodes a record, so that its name is known before it is kept.
func Prepare(c Case, r Record) (Prepared, error) {
	b, err := r.Bytes()
	if err != nil {
		return Prepared{}, err
	}
	return Prepared{c, r, b, digestOf(b)}, nil
}

// Name is the SHA-256 of the record's canonical form, in hex.
func (p Prepared) Name() string { return p.name }

// Record is the record.
func (p Prepared) Record() Record { return p.r }

// AddPrepared is [Archive.Add] for several, which are on the disk when it returns.
func (a *Archive) AddPrepared(list []Prepared) error {
	var w batch
	for _, p := range list {
		if err := w.addCase(a, p); err != nil {
			return err
		}
	}
	return w.flush(a, nil)
}
