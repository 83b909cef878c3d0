package server

import (
	"net/http"
)

// route is a pattern of net/http and its handler.
type route struct {
	pattern string
	handler http.Handler
}

// routes lists all paths. Those with {uid} name one Pod of several that had
// the same name.
func (s *Server) routes() []route {
	do := func(pattern string, f http.HandlerFunc) route { return route{pattern, f} }
	routes := []route{
		do("GET /pods", s.servePods),
		do("GET /pods/", s.servePods),
		do("GET /runningpods/", s.serveRunningPods),
		do("GET /containerLogs/{namespace}/{pod}/{container}", s.serveLogs),
		do("GET /stats/summary", s.serveSummary),
		do("GET /stats/summary/", s.serveSummary),
		{"GET /metrics/resource", s.resourceMetrics()},
		{"GET /metrics/cadvisor", s.cadvisorMetrics()},
		{"GET /metrics/probes", s.probeMetrics()},
		{"GET /logs/", s.nodeLogs()},
	}
	if s.config.Configz != nil {
		routes = append(routes, do("GET /configz", s.serveConfigz))
	}
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		routes = append(routes,
			do(method+" /exec/{namespace}/{pod}/{container}", s.serveExec),
			do(method+" /exec/{namespace}/{pod}/{uid}/{container}", s.serveExec),
			do(method+" /attach/{namespace}/{pod}/{container}", s.serveAttach),
			do(method+" /attach/{namespace}/{pod}/{uid}/{container}", s.serveAttach),
			do(method+" /portForward/{namespace}/{pod}", s.servePortForward),
			do(method+" /portForward/{namespace}/{pod}/{uid}", s.servePortForward),
		)
	}
	return append(routes, do("POST /run/{namespace}/{pod}/{container}", s.serveRun))
}
