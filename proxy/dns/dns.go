// Package dns is the cluster's DNS on this node: names of Services and Pods
// are answered from the proxy's own watch, everything else is forwarded to the
// node's resolvers and cached. It follows the Kubernetes DNS-Based Service
// Discovery specification, version 1.1.0. Run starts one goroutine per
// listener; miekg/dns starts one per query.
package dns

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	mdns "github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// Source is where Services and EndpointSlices come from (package watch).
// Objects are read-only.
type Source interface {
	Service(key string) *corev1.Service
	Slices(service string) []*discoveryv1.EndpointSlice
	ServicesAt(ip string) []*corev1.Service
	SlicesAt(ip string) []*discoveryv1.EndpointSlice
}

// Config of a Server. Source, Domain, Addresses and Logger are required.
type Config struct {
	Source Source
	// Domain is the cluster's domain ("cluster.local").
	Domain string
	// Addresses to listen on, UDP and TCP. They must be the node's.
	Addresses []netip.Addr
	// Port is 53 when 0.
	Port uint16
	// Upstreams are "host:port" of resolvers for other names; empty refuses them.
	Upstreams []string
	Logger    *slog.Logger
}

// Server answers queries. Use New.
type Server struct {
	zone    zone
	forward *forwarder
	config  Config

	mu    sync.Mutex // guards open
	open  int
	wants int
}

// New makes a server that does not listen yet.
func New(c Config) *Server {
	if c.Port == 0 {
		c.Port = 53
	}
	return &Server{
		config:  c,
		zone:    zone{source: c.Source, domain: mdns.CanonicalName(c.Domain)},
		forward: newForwarder(c.Upstreams),
		wants:   2 * len(c.Addresses),
	}
}

// Ready is nil while all listeners are open.
func (s *Server) Ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open < s.wants {
		return errors.New("DNS does not listen yet")
	}
	return nil
}

// Run serves until ctx ends. An address that cannot be listened on ends it
// with an error.
func (s *Server) Run(ctx context.Context) error {
	servers, err := s.listen(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	for _, server := range servers {
		started, ended := make(chan struct{}), make(chan struct{})
		server.NotifyStartedFunc = func() { close(started); s.started() }
		running.Go(func() {
			defer close(ended)
			if err := server.ActivateAndServe(); err != nil {
				cancel(fmt.Errorf("serve DNS on %s/%s: %w", server.Addr, server.Net, err))
			}
		})
		running.Go(func() {
			<-ctx.Done()
			select {
			case <-ended:
			case <-started:
				if err := server.Shutdown(); err != nil {
					s.config.Logger.Debug("stop DNS listener", "address", server.Addr, "error", err)
				}
			}
		})
	}
	running.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// listen opens all listeners, or none.
func (s *Server) listen(ctx context.Context) ([]*mdns.Server, error) {
	var servers []*mdns.Server
	var open []io.Closer
	var config net.ListenConfig
	fail := func(network, at string, err error) ([]*mdns.Server, error) {
		errs := []error{fmt.Errorf("listen for DNS on %s/%s: %w", at, network, err)}
		for _, c := range open {
			errs = append(errs, c.Close())
		}
		return nil, errors.Join(errs...)
	}
	for _, addr := range s.config.Addresses {
		at := netip.AddrPortFrom(addr, s.config.Port).String()
		packets, err := config.ListenPacket(ctx, "udp", at)
		if err != nil {
			return fail("udp", at, err)
		}
		open = append(open, packets)
		stream, err := config.Listen(ctx, "tcp", at)
		if err != nil {
			return fail("tcp", at, err)
		}
		open = append(open, stream)
		for _, server := range []*mdns.Server{{PacketConn: packets, Net: "udp"}, {Listener: stream, Net: "tcp"}} {
			server.Addr, server.Handler, server.UDPSize = at, s, maxUDP
			server.ReadTimeout, server.WriteTimeout = 5*time.Second, 5*time.Second
			servers = append(servers, server)
		}
	}
	return servers, nil
}

func (s *Server) started() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open++
}

// maxUDP is the largest answer sent in one datagram, whatever the client
// offers: what passes common links in one piece (dnsflagday.net/2020).
const maxUDP = 1232

// ServeDNS answers one query.
func (s *Server) ServeDNS(w mdns.ResponseWriter, q *mdns.Msg) {
	ctx, cancel := context.WithTimeout(context.Background(), queryTimeout) // the library has no context
	defer cancel()
	reply := s.answer(ctx, q)
	if opt := q.IsEdns0(); opt != nil && reply.IsEdns0() == nil {
		reply.SetEdns0(maxUDP, opt.Do())
	}
	if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
		size := mdns.MinMsgSize
		if opt := q.IsEdns0(); opt != nil {
			size = min(max(int(opt.UDPSize()), mdns.MinMsgSize), maxUDP)
		}
		reply.Truncate(size)
	}
	if err := w.WriteMsg(reply); err != nil {
		s.config.Logger.Debug("answer DNS query", "error", err)
	}
}

func (s *Server) answer(ctx context.Context, q *mdns.Msg) *mdns.Msg {
	switch {
	case q.Opcode != mdns.OpcodeQuery:
		return new(mdns.Msg).SetRcode(q, mdns.RcodeNotImplemented)
	case len(q.Question) != 1:
		return new(mdns.Msg).SetRcode(q, mdns.RcodeFormatError)
	}
	question := q.Question[0]
	if question.Qclass != mdns.ClassINET && question.Qclass != mdns.ClassANY {
		return new(mdns.Msg).SetRcode(q, mdns.RcodeRefused)
	}
	if reply := s.zone.answer(q, question); reply != nil {
		s.follow(ctx, q, reply)
		return reply
	}
	return s.forward.answer(ctx, q)
}

// maxChain bounds the aliases that are followed.
const maxChain = 8

// follow completes an answer that is only an alias (ExternalName) with what
// the alias leads to. When that cannot be found out, the alias is the answer.
func (s *Server) follow(ctx context.Context, q, reply *mdns.Msg) {
	qtype := q.Question[0].Qtype
	if qtype == mdns.TypeCNAME || qtype == mdns.TypeANY {
		return
	}
	for range maxChain {
		if len(reply.Answer) == 0 {
			return
		}
		alias, ok := reply.Answer[len(reply.Answer)-1].(*mdns.CNAME)
		if !ok {
			return
		}
		next := q.Copy()
		next.Question[0].Name = alias.Target
		found := s.zone.answer(next, next.Question[0])
		if found == nil {
			found = s.forward.answer(ctx, next)
		}
		if found.Rcode != mdns.RcodeSuccess || len(found.Answer) == 0 {
			return
		}
		reply.Answer = append(reply.Answer, found.Answer...)
	}
}
