package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// rsaBits is the size of upstream's service-account keys.
const rsaBits = 2048

// NewRSAKey makes a key as upstream signs service-account tokens with (RS256).
// Making one takes a third of a second; NewKey is what this project signs with.
func NewRSAKey() (*rsa.PrivateKey, error) {
	key, err := rsa.GenerateKey(rand.Reader, rsaBits)
	if err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	return key, nil
}

// EncodeCerts returns the certificates as PEM, one after another.
func EncodeCerts(certs ...*x509.Certificate) []byte {
	buf := &bytes.Buffer{}
	for _, cert := range certs {
		buf.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
	}
	return buf.Bytes()
}

// EncodeKey returns a private key as PEM, in the form upstream uses for its
// kind (SEC 1 for ECDSA, PKCS #1 for RSA, PKCS #8 for others).
func EncodeKey(key crypto.Signer) ([]byte, error) {
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		der, err := x509.MarshalECPrivateKey(k)
		if err != nil {
			return nil, fmt.Errorf("encode key: %w", err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
	case *rsa.PrivateKey:
		return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k)}), nil
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// EncodePublicKey returns a public key as PEM (PKIX).
func EncodePublicKey(key crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// ParseCerts reads all certificates of a PEM file; at least one must be there.
func ParseCerts(encoded []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		block, encoded = pem.Decode(encoded)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("parse certificate: %w", err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("parse certificates: no PEM block of type CERTIFICATE")
	}
	return certs, nil
}

// ParseKey reads the first private key of a PEM file.
func ParseKey(encoded []byte) (crypto.Signer, error) {
	for {
		var block *pem.Block
		block, encoded = pem.Decode(encoded)
		if block == nil {
			return nil, errors.New("parse key: no PEM block with a private key")
		}
		switch block.Type {
		case "EC PRIVATE KEY":
			return wrapKey(x509.ParseECPrivateKey(block.Bytes))
		case "RSA PRIVATE KEY":
			return wrapKey(x509.ParsePKCS1PrivateKey(block.Bytes))
		case "PRIVATE KEY":
			key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("parse key: %w", err)
			}
			signer, ok := key.(crypto.Signer)
			if !ok {
				return nil, fmt.Errorf("parse key: %T cannot sign", key)
			}
			return signer, nil
		}
	}
}

func wrapKey[K crypto.Signer](key K, err error) (crypto.Signer, error) {
	if err != nil {
		return nil, fmt.Errorf("parse key: %w", err)
	}
	return key, nil
}

// ParsePublicKeys reads the public keys of a PEM file: public keys, private
// keys and certificates all count, as upstream's --service-account-key-file.
func ParsePublicKeys(encoded []byte) ([]crypto.PublicKey, error) {
	var keys []crypto.PublicKey
	for {
		var block *pem.Block
		block, encoded = pem.Decode(encoded)
		if block == nil {
			break
		}
		switch block.Type {
		case "PUBLIC KEY":
			key, err := x509.ParsePKIXPublicKey(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("parse public key: %w", err)
			}
			keys = append(keys, key)
		case "RSA PUBLIC KEY":
			key, err := x509.ParsePKCS1PublicKey(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("parse public key: %w", err)
			}
			keys = append(keys, key)
		case "CERTIFICATE":
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("parse certificate: %w", err)
			}
			keys = append(keys, cert.PublicKey)
		default:
			key, err := ParseKey(pem.EncodeToMemory(block))
			if err != nil {
				return nil, err
			}
			keys = append(keys, key.Public())
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("parse public keys: no PEM block with a key")
	}
	return keys, nil
}
