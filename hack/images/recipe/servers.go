package recipe

import (
	"context"
	"fmt"
)

// nginxConf serves files, and logs as containers should.
const nginxConf = `user www-data;
worker_processes 1;
pid /run/nginx.pid;
error_log /dev/stderr notice;
events { worker_connections 512; }
http {
  include /etc/nginx/mime.types;
  default_type application/octet-stream;
  access_log /dev/stdout;
  sendfile on;
  keepalive_timeout 65;
  include /etc/nginx/conf.d/*.conf;
}
`

const nginxSite = `server {
  listen 80;
  root /usr/share/nginx/html;
  index index.html;
  location /nginx_status { stub_status; access_log off; }
}
`

// nginx is Debian's nginx; its page says the version of the image.
func nginx(version string) func(context.Context) ([]*Layer, error) {
	return func(ctx context.Context) ([]*Layer, error) {
		b, err := base(ctx)
		if err != nil {
			return nil, err
		}
		l := NewLayer()
		if err := debian(ctx, l, "nginx", "nginx-common", "libpcre2-8-0"); err != nil {
			return nil, err
		}
		l.Add("etc/nginx/nginx.conf", 0o644, []byte(nginxConf))
		l.Add("etc/nginx/conf.d/default.conf", 0o644, []byte(nginxSite))
		for _, dir := range []string{"var/lib/nginx", "var/log/nginx"} {
			l.Dir(dir, 0o755, 33)
		}
		l.Dir("run", 0o755, 0)
		page := NewLayer()
		page.Add("usr/share/nginx/html/index.html", 0o644, fmt.Appendf(nil, "nginx image version %s\n", version))
		layers := []*Layer{b, l, page}
		return layers, complete(layers...)
	}
}

// redis is Debian's redis.
func redis(ctx context.Context) ([]*Layer, error) {
	b, err := base(ctx)
	if err != nil {
		return nil, err
	}
	l := NewLayer()
	err = debian(ctx, l, "redis-server", "redis-tools", "libatomic1", "libhiredis0.14", "libjemalloc2", "liblua5.1-0", "liblzf1",
		"libstdc++6", "libsystemd0", "lua-bitop", "lua-cjson", "libcap2", "libgcrypt20", "libgpg-error0", "liblz4-1", "liblzma5", "libzstd1")
	if err != nil {
		return nil, err
	}
	l.Dir("data", 0o755, 999)
	layers := []*Layer{b, l}
	return layers, complete(layers...)
}
