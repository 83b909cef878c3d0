package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	mdns "github.com/miekg/dns"
)

const (
	// queryTimeout bounds one query; resolvers try again after five seconds
	// (resolv.conf(5), timeout).
	queryTimeout = 5 * time.Second
	// upstreamTimeout bounds one try of one upstream.
	upstreamTimeout = 2 * time.Second
	// cacheSize bounds the number of cached answers, and cacheMax and
	// negativeMax their life.
	cacheSize   = 10000
	cacheMax    = 30 * time.Second
	negativeMax = 10 * time.Second
)

// forwarder asks upstream resolvers and keeps their answers for a while.
type forwarder struct {
	upstreams []string
	now       func() time.Time

	mu    sync.Mutex // guards cache
	cache map[cacheKey]cached
}

type cacheKey struct {
	name          string
	qtype, qclass uint16
	dnssec        bool
}

type cached struct {
	reply   *mdns.Msg // read-only
	stored  time.Time
	expires time.Time
}

func newForwarder(upstreams []string) *forwarder {
	return &forwarder{upstreams: upstreams, now: time.Now, cache: map[cacheKey]cached{}}
}

// answer forwards the query; without upstreams it is refused, and when none
// answers the client gets a server failure.
func (f *forwarder) answer(ctx context.Context, q *mdns.Msg) *mdns.Msg {
	if len(f.upstreams) == 0 {
		return new(mdns.Msg).SetRcode(q, mdns.RcodeRefused)
	}
	key := keyOf(q)
	if reply := f.lookup(key); reply != nil {
		return asReply(reply, q)
	}
	reply, err := f.exchange(ctx, q)
	if err != nil {
		return new(mdns.Msg).SetRcode(q, mdns.RcodeServerFailure)
	}
	f.store(key, reply)
	return asReply(reply.Copy(), q)
}

func keyOf(q *mdns.Msg) cacheKey {
	opt := q.IsEdns0()
	return cacheKey{strings.ToLower(q.Question[0].Name), q.Question[0].Qtype, q.Question[0].Qclass, opt != nil && opt.Do()}
}

// asReply makes reply (ours to change) an answer to q.
func asReply(reply, q *mdns.Msg) *mdns.Msg {
	reply.Id, reply.Question, reply.Response = q.Id, q.Question, true
	return reply
}

func (f *forwarder) exchange(ctx context.Context, q *mdns.Msg) (*mdns.Msg, error) {
	query := q.Copy()
	query.Id = mdns.Id()
	if query.IsEdns0() == nil {
		query.SetEdns0(maxUDP, false)
	}
	var errs []error
	for _, upstream := range f.upstreams {
		for _, network := range []string{"udp", "tcp"} { // TCP when cut short
			client := &mdns.Client{Net: network, Timeout: upstreamTimeout, UDPSize: maxUDP}
			reply, _, err := client.ExchangeContext(ctx, query, upstream)
			if err != nil {
				errs = append(errs, fmt.Errorf("ask %s: %w", upstream, err))
				break
			}
			if !reply.Truncated || network == "tcp" {
				reply.Extra = withoutOPT(reply.Extra)
				return reply, nil
			}
		}
	}
	return nil, errors.Join(errs...)
}

// withoutOPT drops the EDNS record: it is between two neighbours, not for ours.
func withoutOPT(extra []mdns.RR) []mdns.RR {
	var kept []mdns.RR
	for _, r := range extra {
		if r.Header().Rrtype != mdns.TypeOPT {
			kept = append(kept, r)
		}
	}
	return kept
}

// lookup returns a copy of the cached answer with its life counted down.
func (f *forwarder) lookup(key cacheKey) *mdns.Msg {
	f.mu.Lock()
	c, ok := f.cache[key]
	f.mu.Unlock()
	now := f.now()
	if !ok || !now.Before(c.expires) {
		return nil
	}
	reply := c.reply.Copy()
	age := uint32(now.Sub(c.stored) / time.Second)
	for _, section := range [][]mdns.RR{reply.Answer, reply.Ns, reply.Extra} {
		for _, r := range section {
			h := r.Header()
			h.Ttl -= min(h.Ttl, age)
		}
	}
	return reply
}

func (f *forwarder) store(key cacheKey, reply *mdns.Msg) {
	life := lifeOf(reply)
	if life <= 0 {
		return
	}
	now := f.now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.cache) >= cacheSize {
		f.evict(now)
	}
	f.cache[key] = cached{reply: reply.Copy(), stored: now, expires: now.Add(life)}
}

// evict drops what has expired, or if nothing has, an arbitrary tenth.
func (f *forwarder) evict(now time.Time) {
	for key, c := range f.cache {
		if !now.Before(c.expires) {
			delete(f.cache, key)
		}
	}
	for key := range f.cache {
		if len(f.cache) < cacheSize*9/10 {
			return
		}
		delete(f.cache, key)
	}
}

// lifeOf is the least TTL of the answer; of a negative one, what its SOA says
// (RFC 2308). Failures are not kept.
func lifeOf(reply *mdns.Msg) time.Duration {
	if reply.Rcode != mdns.RcodeSuccess && reply.Rcode != mdns.RcodeNameError {
		return 0
	}
	if len(reply.Answer) == 0 {
		for _, r := range reply.Ns {
			if soa, ok := r.(*mdns.SOA); ok {
				return min(time.Duration(min(soa.Minttl, soa.Hdr.Ttl))*time.Second, negativeMax)
			}
		}
		return 0
	}
	life := cacheMax
	for _, r := range reply.Answer {
		life = min(life, time.Duration(r.Header().Ttl)*time.Second)
	}
	return life
}

// Upstreams reads the resolvers of a resolv.conf, leaving out those in skip
// (ourselves).
func Upstreams(path string, skip func(ip string) bool) ([]string, error) {
	config, err := mdns.ClientConfigFromFile(path)
	if err != nil {
		return nil, fmt.Errorf("read resolvers: %w", err)
	}
	var all []string
	for _, server := range config.Servers {
		if !skip(server) {
			all = append(all, net.JoinHostPort(server, config.Port))
		}
	}
	return all, nil
}
