package recipe

import v1 "github.com/google/go-containerregistry/pkg/v1"

// repository of all images here. "localhost" keeps a kubelet from looking for
// them anywhere else.
const repository = "localhost/skeg/"

const searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// All lists the images there are. A new one is a function for its layers and an
// entry here.
func All() []Recipe {
	return []Recipe{
		{Name: "demo", Ref: repository + "demo:1", Layers: demo, Config: v1.Config{
			Entrypoint: []string{"/demo"}, User: "65532:65532", ExposedPorts: port("8080/tcp"),
		}},
		{Name: "busybox", Ref: repository + "busybox:1", Layers: busybox, Config: v1.Config{
			Cmd: []string{"sh"}, Env: []string{searchPath},
		}},
		{Name: "nginx", Ref: repository + "nginx:1", Layers: nginx("1"), Config: nginxConfig},
		{Name: "nginx2", Ref: repository + "nginx:2", Layers: nginx("2"), Config: nginxConfig},
		{Name: "redis", Ref: repository + "redis:1", Layers: redis, Config: v1.Config{
			Cmd: []string{"redis-server", "--protected-mode", "no", "--bind", "*", "-::*"}, Env: []string{searchPath},
			User: "redis", WorkingDir: "/data", ExposedPorts: port("6379/tcp"), Volumes: map[string]struct{}{"/data": {}},
		}},
	}
}

// nginxConfig ends gracefully, as nginx's own image does.
var nginxConfig = v1.Config{
	Cmd: []string{"nginx", "-g", "daemon off;"}, Env: []string{searchPath}, ExposedPorts: port("80/tcp"), StopSignal: "SIGQUIT",
}

func port(p string) map[string]struct{} { return map[string]struct{}{p: {}} }
