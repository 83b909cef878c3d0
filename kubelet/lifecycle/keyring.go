package lifecycle

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"path"
	"sort"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Keyring holds registry credentials from Docker configuration files, found
// by image reference.
type Keyring struct {
	entries []keyringEntry
}

type keyringEntry struct {
	host, path string
	credential Credential
}

// dockerAuth is one entry of a Docker configuration file.
type dockerAuth struct {
	Username      string `json:"username"`
	Password      string `json:"password"`
	Auth          string `json:"auth"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

// AddSecret takes the credentials of an image pull secret.
func (k *Keyring) AddSecret(secret *corev1.Secret) error {
	switch {
	case secret.Type == corev1.SecretTypeDockerConfigJson || secret.Data[corev1.DockerConfigJsonKey] != nil:
		return k.AddConfigJSON(secret.Data[corev1.DockerConfigJsonKey])
	case secret.Type == corev1.SecretTypeDockercfg || secret.Data[corev1.DockerConfigKey] != nil:
		return k.addAuths(secret.Data[corev1.DockerConfigKey])
	default:
		return fmt.Errorf("secret of type %q holds no registry credentials", secret.Type)
	}
}

// AddConfigJSON takes a ~/.docker/config.json.
func (k *Keyring) AddConfigJSON(data []byte) error {
	var config struct {
		Auths json.RawMessage `json:"auths"`
	}
	if err := json.Unmarshal(data, &config); err != nil {
		return fmt.Errorf("decode docker config: %w", err)
	}
	if len(config.Auths) == 0 {
		return nil
	}
	return k.addAuths(config.Auths)
}

func (k *Keyring) addAuths(data []byte) error {
	var auths map[string]dockerAuth
	if err := json.Unmarshal(data, &auths); err != nil {
		return fmt.Errorf("decode registry credentials: %w", err)
	}
	for registry, auth := range auths {
		credential := Credential{
			Username: auth.Username, Password: auth.Password,
			IdentityToken: auth.IdentityToken, RegistryToken: auth.RegistryToken,
		}
		if auth.Auth != "" && credential.Username == "" {
			user, password, err := decodeAuth(auth.Auth)
			if err != nil {
				return fmt.Errorf("decode credentials for %s: %w", registry, err)
			}
			credential.Username, credential.Password = user, password
		}
		host, prefix := registryKey(registry)
		k.entries = append(k.entries, keyringEntry{host: host, path: prefix, credential: credential})
	}
	// The most specific entry first; equal ones in a stable order.
	sort.SliceStable(k.entries, func(i, j int) bool {
		a, b := k.entries[i], k.entries[j]
		if len(a.path) != len(b.path) {
			return len(a.path) > len(b.path)
		}
		return a.host+a.path > b.host+b.path
	})
	return nil
}

func decodeAuth(encoded string) (user, password string, err error) {
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		raw, err = base64.RawStdEncoding.DecodeString(encoded)
	}
	if err != nil {
		return "", "", fmt.Errorf("auth is not base64: %w", err)
	}
	user, password, ok := strings.Cut(string(raw), ":")
	if !ok {
		return "", "", fmt.Errorf("auth holds no user and password")
	}
	return user, password, nil
}

// registryKey splits "https://host:5000/v1/team" into host and path; the
// version path of old configuration files means the whole registry.
func registryKey(registry string) (host, prefix string) {
	if !strings.Contains(registry, "://") {
		registry = "https://" + registry
	}
	parsed, err := url.Parse(registry)
	if err != nil {
		return registry, ""
	}
	prefix = strings.TrimSuffix(parsed.Path, "/")
	for _, version := range []string{"/v1", "/v2"} {
		if rest, ok := strings.CutPrefix(prefix, version); ok && (rest == "" || rest[0] == '/') {
			prefix = rest
		}
	}
	host = parsed.Host
	if host == "index.docker.io" || host == "registry-1.docker.io" {
		host = "docker.io"
	}
	return host, prefix
}

// Lookup returns the credentials that match the image, most specific first.
func (k *Keyring) Lookup(image string) []Credential {
	host, repository := splitImage(image)
	var out []Credential
	for _, entry := range k.entries {
		if hostMatches(entry.host, host) && pathMatches(entry.path, "/"+repository) {
			out = append(out, entry.credential)
		}
	}
	return out
}

// splitImage finds the registry of a reference: its first element when that
// looks like a host, Docker Hub otherwise.
func splitImage(image string) (host, repository string) {
	first, rest, found := strings.Cut(image, "/")
	if !found || (!strings.ContainsAny(first, ".:") && first != "localhost") {
		return "docker.io", image
	}
	if first == "index.docker.io" || first == "registry-1.docker.io" {
		first = "docker.io"
	}
	return first, rest
}

// hostMatches compares element by element, so that "*.example.com" matches
// one more level, and only with the same port.
func hostMatches(pattern, host string) bool {
	patternName, patternPort, _ := strings.Cut(pattern, ":")
	hostName, hostPort, _ := strings.Cut(host, ":")
	if patternPort != hostPort {
		return false
	}
	patternParts, hostParts := strings.Split(patternName, "."), strings.Split(hostName, ".")
	if len(patternParts) != len(hostParts) {
		return false
	}
	for i := range patternParts {
		if ok, err := path.Match(patternParts[i], hostParts[i]); err != nil || !ok {
			return false
		}
	}
	return true
}

func pathMatches(prefix, repository string) bool {
	return prefix == "" || strings.HasPrefix(repository, prefix)
}
