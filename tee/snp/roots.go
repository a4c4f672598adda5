package snp

import (
	"bytes"
	"crypto/x509"
	"embed"
	"encoding/pem"
	"errors"
	"fmt"
)

//go:embed roots/*.pem
var rootFiles embed.FS

// rootNames lists the embedded files and the SHA-256 of the DER of their two
// certificates, signing certificate first, then root. roots/README.md has the
// same table with the subjects.
var rootNames = []struct{ file, signer, root string }{
	{"ask_ark_milan.pem", "67d303bd3905fd38db8b20e0793699870e7fa612eaad5dec358293fd8c0bac1b", "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd"},
	{"ask_ark_milan_vlek.pem", "c5e081f59b7efab1fe2f8b505e159704e72f29cab7ef7cf628a05a42439082f5", "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd"},
	{"ask_ark_genoa.pem", "5464738c1546aed5f2cecf1dc98c5c960a92e8913238a61711bc90ec6e828521", "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1"},
	{"ask_ark_genoa_vlek.pem", "197e610743a917d6b9bb982a5a9226ccc0a15b611be0619e626aca9151457372", "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1"},
	{"ask_ark_turin_vcek.pem", "5b77ef5fe7a7a004fd9032668fba9d0fda22f88c4442069a479636a6ae3b3185", "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a"},
	{"ask_ark_turin_vlek.pem", "104e10a8bd060a3c20a434261a57d0588fd65a88915b4f65b08bdecaf8df1a3c", "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a"},
}

// embeddedCertificates parses AMD's certificates. An error is a defect of the
// build.
func embeddedCertificates() ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for _, n := range rootNames {
		b, err := rootFiles.ReadFile("roots/" + n.file)
		if err != nil {
			return nil, err
		}
		certs, err := parsePEM(b)
		if err != nil || len(certs) != 2 {
			return nil, fmt.Errorf("%s: want two certificates: %v", n.file, err)
		}
		all = append(all, certs...)
	}
	return all, nil
}

// parsePEM reads certificates and refuses any other block.
func parsePEM(b []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for {
		block, rest := pem.Decode(b)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" || len(certs) == maxCertificates {
			return nil, errors.New("not a short list of certificates")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certs, b = append(certs, c), rest
	}
	if len(certs) == 0 || len(bytes.TrimSpace(b)) > 0 {
		return nil, errors.New("no certificates, or bytes after them")
	}
	return certs, nil
}
