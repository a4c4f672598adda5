package tdx

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cloister-cc/cloister/tee"
)

// QGSPort is the vsock port on which the host's quoting service listens unless it
// was told otherwise.
const QGSPort = 4050

// Messages of the quoting service (Intel DCAP, qgs_msg_lib.h): little endian and
// without padding, each after its length as four bytes big endian.
const (
	qgsMajor         = 1  // the minor version changes nothing here
	qgsQuoteRequest  = 0  // GET_QUOTE_REQ
	qgsQuoteResponse = 1  // GET_QUOTE_RESP
	qgsHeader        = 16 // major, minor, type, size, error
	qgsSizes         = 8  // of the two fields that follow
	maxQGSMessage    = tee.MaxEvidence + qgsHeader + qgsSizes + 64
)

// exchangeQuote sends a TDREPORT and returns the quote for it.
func exchangeQuote(conn io.ReadWriter, report []byte) ([]byte, error) {
	message := encodeQuoteRequest(report)
	if _, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(message))), message...)); err != nil {
		return nil, err
	}
	var length [4]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > maxQGSMessage {
		return nil, fmt.Errorf("response of %d bytes, at most %d", n, maxQGSMessage)
	}
	response := make([]byte, n)
	if _, err := io.ReadFull(conn, response); err != nil {
		return nil, err
	}
	return parseQuoteResponse(response)
}

// encodeQuoteRequest asks for a quote with whichever attestation key the service
// has.
func encodeQuoteRequest(report []byte) []byte {
	le := binary.LittleEndian
	b := le.AppendUint16(le.AppendUint16(nil, qgsMajor), 0)
	b = le.AppendUint32(b, qgsQuoteRequest)
	b = le.AppendUint32(b, uint32(qgsHeader+qgsSizes+len(report)))
	b = le.AppendUint32(b, 0) // error, of responses only
	b = le.AppendUint32(b, uint32(len(report)))
	b = le.AppendUint32(b, 0) // no list of keys
	return append(b, report...)
}

// parseQuoteResponse takes the quote out of a response. The result is part of b.
func parseQuoteResponse(b []byte) ([]byte, error) {
	if len(b) < qgsHeader+qgsSizes || len(b) > maxQGSMessage {
		return nil, fmt.Errorf("response of %d bytes", len(b))
	}
	le := binary.LittleEndian
	major, kind, size, code := le.Uint16(b), le.Uint32(b[4:]), le.Uint32(b[8:]), le.Uint32(b[12:])
	id, quote := uint64(le.Uint32(b[16:])), uint64(le.Uint32(b[20:]))
	switch {
	case major != qgsMajor || kind != qgsQuoteResponse:
		return nil, fmt.Errorf("message of type %d and version %d is no quote", kind, major)
	case uint64(size) != uint64(len(b)):
		return nil, fmt.Errorf("response of %d bytes says %d", len(b), size)
	case code != 0:
		return nil, fmt.Errorf("the service says error %#x", code)
	case qgsHeader+qgsSizes+id+quote != uint64(len(b)):
		return nil, errors.New("the sizes in the response do not add up")
	case quote == 0 || quote > tee.MaxEvidence:
		return nil, fmt.Errorf("quote of %d bytes", quote)
	}
	return b[qgsHeader+qgsSizes+id:], nil
}
