package bootstrap

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/skeg-dev/skeg/apiserver/authn"
	"github.com/skeg-dev/skeg/internal/pki"
)

// ensureKubeconfigs finds or makes the client configurations of the control
// plane and of the administrator.
func (f *Files) ensureKubeconfigs(now time.Time) error {
	for _, k := range []struct{ file, entry, user, group string }{
		{"admin.conf", "kubernetes-admin", "kubernetes-admin", authn.GroupMasters},
		{"controller-manager.conf", authn.UserControllerManager, authn.UserControllerManager, ""},
		{"scheduler.conf", authn.UserScheduler, authn.UserScheduler, ""},
		{"proxy.conf", authn.UserProxy, authn.UserProxy, ""},
	} {
		request := pki.Request{CommonName: k.user, Client: true}
		if k.group != "" {
			request.Organizations = []string{k.group}
		}
		path := filepath.Join(f.config.KubeconfigDir, k.file)
		reason := f.kubeconfigFits(path, request, now)
		if reason == nil {
			continue
		}
		f.config.Logger.Info("making kubeconfig", "path", path, "reason", reason.Error())
		if err := f.writeKubeconfig(path, k.entry, request); err != nil {
			return err
		}
	}
	return nil
}

func (f *Files) writeKubeconfig(path, entry string, request pki.Request) error {
	pair, err := f.CA.Issue(request)
	if err != nil {
		return err
	}
	key, err := pki.EncodeKey(pair.Key)
	if err != nil {
		return err
	}
	return pki.Kubeconfig{User: entry, Server: f.config.Server, CA: f.CABundle, CertPEM: pki.EncodeCerts(pair.Cert), KeyPEM: key}.Write(path)
}

// kubeconfigFits says why the file must be made again, or nil.
func (f *Files) kubeconfigFits(path string, request pki.Request, now time.Time) error {
	config, err := clientcmd.LoadFromFile(path)
	if err != nil {
		return err
	}
	cluster, user, err := current(config)
	if err != nil {
		return err
	}
	if cluster.Server != f.config.Server {
		return fmt.Errorf("it names server %s, not %s", cluster.Server, f.config.Server)
	}
	if !bytes.Equal(bytes.TrimSpace(cluster.CertificateAuthorityData), bytes.TrimSpace(f.CABundle)) {
		return errors.New("it trusts another authority")
	}
	pair, err := pki.ParsePair(user.ClientCertificateData, user.ClientKeyData)
	if err != nil {
		return err
	}
	return pki.Fits(pair.Cert, f.CA.Cert, request, now)
}

func current(config *clientcmdapi.Config) (*clientcmdapi.Cluster, *clientcmdapi.AuthInfo, error) {
	at, ok := config.Contexts[config.CurrentContext]
	if !ok {
		return nil, nil, errors.New("it has no current context")
	}
	cluster, user := config.Clusters[at.Cluster], config.AuthInfos[at.AuthInfo]
	if cluster == nil || user == nil {
		return nil, nil, errors.New("its current context is incomplete")
	}
	return cluster, user, nil
}
