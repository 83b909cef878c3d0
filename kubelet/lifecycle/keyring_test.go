package lifecycle

import (
	"encoding/base64"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestKeyring(t *testing.T) {
	t.Parallel()
	auth := base64.StdEncoding.EncodeToString([]byte("coded:secret"))
	keys := &Keyring{}
	config := fmt.Sprintf(`{"auths": {
		"https://index.docker.io/v1/": {"username": "hub", "password": "p"},
		"registry.example.com": {"auth": %q},
		"registry.example.com/team": {"username": "team", "password": "p"},
		"*.wild.example.com": {"username": "wild", "password": "p"},
		"localhost:5000": {"username": "local", "password": "p"}
	}}`, auth)
	if err := keys.AddSecret(&corev1.Secret{
		Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{corev1.DockerConfigJsonKey: []byte(config)},
	}); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		image string
		users []string
	}{
		{"nginx", []string{"hub"}},
		{"library/nginx:1", []string{"hub"}},
		{"docker.io/library/nginx", []string{"hub"}},
		{"registry.example.com/app", []string{"coded"}},
		{"registry.example.com/team/app:2", []string{"team", "coded"}},
		{"a.wild.example.com/x", []string{"wild"}},
		{"a.b.wild.example.com/x", nil},
		{"localhost:5000/demo", []string{"local"}},
		{"localhost:5001/demo", nil},
		{"other.example.com/app", nil},
	} {
		var users []string
		for _, credential := range keys.Lookup(test.image) {
			users = append(users, credential.Username)
		}
		if fmt.Sprint(users) != fmt.Sprint(test.users) {
			t.Errorf("%s: %v, want %v", test.image, users, test.users)
		}
	}
}

func TestKeyringRefusesNonsense(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`{`, `{"auths": 1}`, `{"auths": {"h": {"auth": "%%%"}}}`, `{"auths": {"h": {"auth": "bm9jb2xvbg=="}}}`} {
		if err := (&Keyring{}).AddConfigJSON([]byte(text)); err == nil {
			t.Errorf("%s: no error", text)
		}
	}
}
