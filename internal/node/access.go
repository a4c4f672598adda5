package node

import (
	"crypto/ecdsa"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"strings"
	"time"
)

// access makes and reads access tokens: they name an owner to the faces whose
// clients cannot show a certificate. Whoever has one can do what its owner can on
// those faces, until it ends.
type access struct {
	key []byte
	now func() time.Time
}

const (
	accessPrefix   = "cloister-access-v1."
	accessLifetime = time.Hour
)

// newAccess derives the key of access tokens from the service key, so that a
// token outlives a restart of the node.
func newAccess(service *ecdsa.PrivateKey) (access, error) {
	secret, err := service.Bytes()
	if err != nil {
		return access{}, err
	}
	defer clear(secret)
	key, err := hkdf.Key(sha256.New, secret, nil, "cloister node access tokens v1", sha256.Size)
	return access{key, time.Now}, err
}

// give makes a token for an owner.
func (a access) give(owner []byte) (token string, ends time.Time) {
	ends = a.now().Add(accessLifetime).UTC().Truncate(time.Second)
	body := binary.BigEndian.AppendUint64(append([]byte(nil), owner...), uint64(ends.Unix()))
	return accessPrefix + encode64(append(body, a.mac(body)...)), ends
}

// owner returns whose token it is; nil if it is none of ours, or ended.
func (a access) owner(token string) []byte {
	text, ok := strings.CutPrefix(token, accessPrefix)
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	const size = sha256.Size + 8
	if !ok || err != nil || len(b) != size+sha256.Size || !hmac.Equal(a.mac(b[:size]), b[size:]) {
		return nil
	}
	ends := time.Unix(int64(binary.BigEndian.Uint64(b[sha256.Size:size])), 0)
	if !a.now().Before(ends) {
		return nil
	}
	return b[:sha256.Size]
}

func (a access) mac(body []byte) []byte {
	m := hmac.New(sha256.New, a.key)
	m.Write(body)
	return m.Sum(nil)
}

// caller is who makes a request: by its access token, or else by its certificate.
func (a access) caller(r *http.Request) []byte {
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return a.owner(token)
	}
	return owner(r)
}

func encode64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
