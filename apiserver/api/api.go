// Package api lists the kinds the server serves. A new kind is one file in
// apiserver/api/<group> and one line here; everything else (routes, discovery,
// OpenAPI, RBAC, tables, storage) follows from its Definition.
package api
