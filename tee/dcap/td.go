package dcap

// td is the body of a TD's quote, as far as the status of its platform depends
// on it ("Intel TDX DCAP Quoting Library API", A.3.2 and A.3.3; package tdx reads
// the rest).
type td struct{ body []byte }

func (b td) teeTCBSVN() [16]uint8   { return [16]uint8(b.body[0:16]) }
func (b td) mrSignerSEAM() []byte   { return b.body[64:112] }
func (b td) seamAttributes() []byte { return b.body[112:120] }
func (b td) is15() bool             { return len(b.body) == TD15BodySize }
func (b td) teeTCBSVN2() [16]uint8  { return [16]uint8(b.body[584:600]) }
