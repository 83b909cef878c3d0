package pki

import (
	"fmt"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Kubeconfig describes a client configuration file for one cluster and user.
type Kubeconfig struct {
	// Cluster and User name the entries; "" means "kubernetes" and "default".
	Cluster, User string
	// Server is the API server's URL.
	Server string
	// CA is the PEM bundle it is checked with.
	CA []byte
	// CertPEM and KeyPEM, or CertFile and KeyFile, or Token say who the client is.
	CertPEM, KeyPEM   []byte
	CertFile, KeyFile string
	Token             string
	// Namespace is the context's; "" means default.
	Namespace string
}

// Encode returns the YAML text.
func (k Kubeconfig) Encode() ([]byte, error) {
	cluster, user := k.Cluster, k.User
	if cluster == "" {
		cluster = "kubernetes"
	}
	if user == "" {
		user = "default"
	}
	name := user + "@" + cluster
	config := clientcmdapi.NewConfig()
	config.Clusters[cluster] = &clientcmdapi.Cluster{Server: k.Server, CertificateAuthorityData: k.CA}
	config.AuthInfos[user] = &clientcmdapi.AuthInfo{
		ClientCertificateData: k.CertPEM, ClientKeyData: k.KeyPEM,
		ClientCertificate: k.CertFile, ClientKey: k.KeyFile, Token: k.Token,
	}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: cluster, AuthInfo: user, Namespace: k.Namespace}
	config.CurrentContext = name
	text, err := clientcmd.Write(*config)
	if err != nil {
		return nil, fmt.Errorf("encode kubeconfig: %w", err)
	}
	return text, nil
}

// EncodeCluster returns the YAML text with the cluster alone, unnamed and
// without a user, as kubeadm publishes it in the ConfigMap cluster-info.
func (k Kubeconfig) EncodeCluster() ([]byte, error) {
	config := clientcmdapi.NewConfig()
	config.Clusters[""] = &clientcmdapi.Cluster{Server: k.Server, CertificateAuthorityData: k.CA}
	text, err := clientcmd.Write(*config)
	if err != nil {
		return nil, fmt.Errorf("encode cluster information: %w", err)
	}
	return text, nil
}

// Write writes the file atomically with mode 0600.
func (k Kubeconfig) Write(path string) error {
	text, err := k.Encode()
	if err != nil {
		return err
	}
	return WriteFile(path, text, ModePrivate)
}
