package nitro_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/nitro"
	"github.com/fxamacker/cbor/v2"
)

func TestAttester(t *testing.T) {
	aws, enclave := aws(t)
	a := nitro.NewAttester(enclave.NSM(nil))
	reportData := [64]byte{1, 2, 3}
	ev, err := a.Evidence(t.Context(), reportData)
	if err != nil {
		t.Fatal(err)
	}
	claims, _ := verifies(t, ev, aws.Input())
	if a.Kind() != claims.TEE || [64]byte(claims.ReportData) != reportData {
		t.Errorf("claims %+v", claims)
	}
	d, err := a.Document(t.Context(), nitro.Request{Nonce: []byte("nonce"), PublicKey: []byte("key")})
	if err != nil {
		t.Fatal(err)
	}
	claims, _ = verifies(t, tee.Evidence{Kind: tee.Nitro, Data: d}, aws.Input())
	if claims.ReportData != nil || claims.Vendor["nonce"] != "6e6f6e6365" || claims.Vendor["public_key"] != "6b6579" {
		t.Errorf("claims %+v", claims)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = a.Evidence(t.Context(), reportData)
	wantUnavailable(t, err)
}

func wantUnavailable(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, &tee.Error{Code: tee.CodeUnavailable}) {
		t.Fatalf("error %v, want unavailable", err)
	}
}

func TestAttesterRefuses(t *testing.T) {
	_, enclave := aws(t)
	marshal := func(v any) []byte {
		b, err := cbor.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, response := range map[string]func([]byte) ([]byte, error){
		"device fails": func([]byte) ([]byte, error) { return nil, os.ErrPermission },
		"error":        func([]byte) ([]byte, error) { return marshal(map[string]string{"Error": "InternalError"}), nil },
		"empty":        func([]byte) ([]byte, error) { return nil, nil },
		"empty map":    func([]byte) ([]byte, error) { return []byte{0xA0}, nil },
		"short":        func(b []byte) ([]byte, error) { return b[:len(b)-1], nil },
		"long":         func(b []byte) ([]byte, error) { return append(b, make([]byte, nitro.MaxNSMResponse)...), nil },
		"other answer": func([]byte) ([]byte, error) { return marshal(map[string]any{"LockPCR": map[string]any{}}), nil },
		"no document":  func([]byte) ([]byte, error) { return marshal(map[string]any{"Attestation": map[string]any{}}), nil },
		"other bytes": func([]byte) ([]byte, error) {
			return marshal(map[string]any{"Attestation": map[string]any{"document": []byte("x")}}), nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			ev, err := nitro.NewAttester(enclave.NSM(response)).Evidence(t.Context(), [64]byte{})
			wantUnavailable(t, err)
			if ev.Data != nil {
				t.Error("evidence beside an error")
			}
		})
	}
	a := nitro.NewAttester(enclave.NSM(nil))
	for _, r := range []nitro.Request{{UserData: make([]byte, 513)}, {Nonce: make([]byte, 513)}, {PublicKey: make([]byte, 1025)}} {
		if _, err := a.Document(t.Context(), r); !errors.Is(err, &tee.Error{Code: tee.CodeParse}) {
			t.Errorf("error %v, want parse", err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := a.Evidence(ctx, [64]byte{})
	wantUnavailable(t, err)
}

// TestRequestBytes pins what goes to the device: AWS's library writes the same.
func TestRequestBytes(t *testing.T) {
	_, enclave := aws(t)
	var got []byte
	a := nitro.NewAttester(recorder{enclave.NSM(nil), &got})
	if _, err := a.Document(t.Context(), nitro.Request{Nonce: []byte{1}}); err != nil {
		t.Fatal(err)
	}
	want := []byte("\xA1\x6BAttestation\xA3\x69user_data\xF6\x65nonce\x41\x01\x6Apublic_key\xF6")
	if !bytes.Equal(got, want) {
		t.Errorf("request %q, want %q", got, want)
	}
}

type recorder struct {
	nitro.NSM
	last *[]byte
}

func (r recorder) Exchange(request []byte) ([]byte, error) {
	*r.last = bytes.Clone(request)
	return r.NSM.Exchange(request)
}

// TestOpen runs outside an enclave, mostly.
func TestOpen(t *testing.T) {
	a, err := nitro.Open()
	if err == nil {
		defer a.Close()
		ev, err := a.Evidence(t.Context(), [64]byte{1})
		if err != nil || !nitro.New().Detect(ev.Data) {
			t.Errorf("there is an NSM, and it gives %v", err)
		}
		return
	}
	wantUnavailable(t, err)
}
