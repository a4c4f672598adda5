package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/cloister-cc/cloister/attest/maa"
)

// Providers lists the caller's attestation providers.
func (n *Node) Providers(ctx context.Context) ([]maa.Info, error) {
	var a []maa.Info
	err := n.call(ctx, http.MethodGet, "/v1/providers", nil, &a)
	return a, err
}

// CreateProvider makes an attestation provider.
func (n *Node) CreateProvider(ctx context.Context, s maa.Settings) (maa.Info, error) {
	var a maa.Info
	err := n.call(ctx, http.MethodPost, "/v1/providers", s, &a)
	return a, err
}

// Provider describes one of the caller's attestation providers.
func (n *Node) Provider(ctx context.Context, name string) (maa.Info, error) {
	var a maa.Info
	err := n.call(ctx, http.MethodGet, "/v1/providers/"+url.PathEscape(name), nil, &a)
	return a, err
}

// RotateProvider gives an attestation provider a new signing key.
func (n *Node) RotateProvider(ctx context.Context, name string) (maa.Info, error) {
	var a maa.Info
	err := n.call(ctx, http.MethodPost, "/v1/providers/"+url.PathEscape(name)+"/rotate", nil, &a)
	return a, err
}

// DeleteProvider removes an attestation provider; its tokens can no longer be
// verified.
func (n *Node) DeleteProvider(ctx context.Context, name string) error {
	var a struct{}
	return n.call(ctx, http.MethodDelete, "/v1/providers/"+url.PathEscape(name), nil, &a)
}

// AccessToken gives the caller a Bearer token for the faces whose clients show no
// certificate. It is a secret until it ends.
func (n *Node) AccessToken(ctx context.Context) (AccessToken, error) {
	var a AccessToken
	err := n.call(ctx, http.MethodPost, "/v1/access", nil, &a)
	return a, err
}

// Authority returns the certificate (PEM) of the authority under which the node's
// plain HTTPS is. The node is proven, so whoever trusts that certificate talks to
// the code that the policy names, and to nobody else.
func (n *Node) Authority(ctx context.Context) ([]byte, error) {
	a, err := n.authority(ctx)
	return a.Certificate, err
}

func (n *Node) authority(ctx context.Context) (Authority, error) {
	var a Authority
	err := n.call(ctx, http.MethodGet, "/v1/authority", nil, &a)
	return a, err
}

// TPMAuthority returns the certificate (PEM) of the attestation CA of the node: the root
// with which evidence of its virtual machines verifies (package attest/akca).
func (n *Node) TPMAuthority(ctx context.Context) ([]byte, error) {
	a, err := n.authority(ctx)
	return a.AttestationKeys, err
}
