package dns

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/skeg-dev/skeg/internal/testkit"
)

// objects is a Source.
type objects struct {
	services []*corev1.Service
	slices   []*discoveryv1.EndpointSlice
}

func (o *objects) Service(key string) *corev1.Service {
	for _, s := range o.services {
		if s.Namespace+"/"+s.Name == key {
			return s
		}
	}
	return nil
}

func (o *objects) Slices(service string) []*discoveryv1.EndpointSlice {
	var all []*discoveryv1.EndpointSlice
	for _, s := range o.slices {
		if s.Namespace+"/"+s.Labels[discoveryv1.LabelServiceName] == service {
			all = append(all, s)
		}
	}
	return all
}

func (o *objects) ServicesAt(ip string) []*corev1.Service {
	var all []*corev1.Service
	for _, s := range o.services {
		if slices.Contains(s.Spec.ClusterIPs, ip) {
			all = append(all, s)
		}
	}
	return all
}

func (o *objects) SlicesAt(ip string) []*discoveryv1.EndpointSlice {
	var all []*discoveryv1.EndpointSlice
	for _, s := range o.slices {
		if slices.ContainsFunc(s.Endpoints, func(e discoveryv1.Endpoint) bool { return slices.Contains(e.Addresses, ip) }) {
			all = append(all, s)
		}
	}
	return all
}

func endpoint(addr, hostname string, ready bool) discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{Addresses: []string{addr}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}
	if hostname != "" {
		e.Hostname = &hostname
	}
	return e
}

func sliceOf(service string, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "shop", Name: service + "-x", Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: endpoints,
		Ports: []discoveryv1.EndpointPort{{Name: ptr.To("client"), Port: ptr.To[int32](6379), Protocol: ptr.To(corev1.ProtocolTCP)}},
	}
}

func world() *objects {
	web := testkit.Service("shop", "web", "10.96.0.5", 80, 8080)
	web.Spec.Ports[0].Name = "http"
	web.Spec.ClusterIPs = append(web.Spec.ClusterIPs, "fd96::5")
	db := testkit.Service("shop", "db", corev1.ClusterIPNone, 6379, 6379)
	starting := testkit.Service("shop", "starting", corev1.ClusterIPNone, 6379, 6379)
	starting.Spec.PublishNotReadyAddresses = true
	crowd := testkit.Service("shop", "crowd", corev1.ClusterIPNone, 6379, 6379)
	alias := func(name, to string) *corev1.Service {
		s := testkit.Service("shop", name, "", 80, 80)
		s.Spec.Type, s.Spec.ExternalName, s.Spec.ClusterIPs = corev1.ServiceTypeExternalName, to, nil
		return s
	}
	o := &objects{
		services: []*corev1.Service{web, db, starting, crowd, alias("out", "www.example.com"), alias("in", "web.shop.svc.cluster.local"),
			alias("loop", "loop.shop.svc.cluster.local"), alias("nowhere", "gone.example.com")},
		slices: []*discoveryv1.EndpointSlice{
			sliceOf("web", endpoint("10.244.0.9", "", true)),
			sliceOf("db", endpoint("10.244.0.1", "db-0", true), endpoint("10.244.0.2", "", true), endpoint("10.244.0.3", "db-2", false)),
			sliceOf("starting", endpoint("10.244.0.4", "s-0", false)),
		},
	}
	var many []discoveryv1.Endpoint
	for n := range 200 {
		many = append(many, endpoint(fmt.Sprintf("10.244.9.%d", n), "", true))
	}
	o.slices = append(o.slices, sliceOf("crowd", many...))
	return o
}

// serve runs a server on a loopback address of the test process and returns
// "address:53".
func serve(t *testing.T, n int, s *Server) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	testkit.Eventually(t, "DNS to listen", s.Ready)
	return netip.AddrPortFrom(loopback(n), 53).String()
}

func loopback(n int) netip.Addr {
	pid := os.Getpid()
	return netip.AddrFrom4([4]byte{127, byte(80 + n), byte(pid >> 8), byte(pid) | 1})
}

func newServer(n int, source Source, upstreams ...string) *Server {
	return New(Config{
		Source: source, Domain: "cluster.local", Addresses: []netip.Addr{loopback(n)}, Upstreams: upstreams,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
}

func ask(t *testing.T, network, at, name string, qtype uint16) *mdns.Msg {
	t.Helper()
	client := &mdns.Client{Net: network, Timeout: testkit.Patience}
	reply, _, err := client.Exchange(new(mdns.Msg).SetQuestion(name, qtype), at)
	if err != nil {
		t.Fatalf("ask for %s: %v", name, err)
	}
	return reply
}

// short is an answer's records without names and lives.
func short(records []mdns.RR) string {
	var texts []string
	for _, r := range records {
		if fields := strings.Fields(r.String()); len(fields) > 4 && r.Header().Rrtype != mdns.TypeOPT {
			texts = append(texts, strings.Join(fields[3:], " "))
		}
	}
	slices.Sort(texts)
	return strings.Join(texts, ", ")
}

func TestClusterNames(t *testing.T) {
	at := serve(t, 0, newServer(0, world(), "127.0.0.1:1"))
	for _, c := range []struct {
		name   string
		qtype  uint16
		rcode  int
		answer string
	}{
		{"web.shop.svc.cluster.local.", mdns.TypeA, 0, "A 10.96.0.5"},
		{"WEB.Shop.svc.Cluster.Local.", mdns.TypeA, 0, "A 10.96.0.5"},
		{"web.shop.svc.cluster.local.", mdns.TypeAAAA, 0, "AAAA fd96::5"},
		{"web.shop.svc.cluster.local.", mdns.TypeMX, 0, ""},
		{"db.shop.svc.cluster.local.", mdns.TypeA, 0, "A 10.244.0.1, A 10.244.0.2"},
		{"db.shop.svc.cluster.local.", mdns.TypeAAAA, 0, ""},
		{"db-0.db.shop.svc.cluster.local.", mdns.TypeA, 0, "A 10.244.0.1"},
		{"10-244-0-2.db.shop.svc.cluster.local.", mdns.TypeA, 0, "A 10.244.0.2"},
		{"db-2.db.shop.svc.cluster.local.", mdns.TypeA, mdns.RcodeNameError, ""}, // not ready
		{"s-0.starting.shop.svc.cluster.local.", mdns.TypeA, 0, "A 10.244.0.4"},
		{"x.web.shop.svc.cluster.local.", mdns.TypeA, mdns.RcodeNameError, ""},
		{"nope.shop.svc.cluster.local.", mdns.TypeA, mdns.RcodeNameError, ""},
		{"_http._tcp.web.shop.svc.cluster.local.", mdns.TypeSRV, 0, "SRV 0 100 80 web.shop.svc.cluster.local."},
		{"_http._udp.web.shop.svc.cluster.local.", mdns.TypeSRV, mdns.RcodeNameError, ""},
		{"_client._tcp.db.shop.svc.cluster.local.", mdns.TypeSRV, 0,
			"SRV 0 100 6379 10-244-0-2.db.shop.svc.cluster.local., SRV 0 100 6379 db-0.db.shop.svc.cluster.local."},
		{"10-1-2-3.shop.pod.cluster.local.", mdns.TypeA, 0, "A 10.1.2.3"},
		{"not-an-address.shop.pod.cluster.local.", mdns.TypeA, mdns.RcodeNameError, ""},
		{"5.0.96.10.in-addr.arpa.", mdns.TypePTR, 0, "PTR web.shop.svc.cluster.local."},
		{"1.0.244.10.in-addr.arpa.", mdns.TypePTR, 0, "PTR db-0.db.shop.svc.cluster.local."},
		{"in.shop.svc.cluster.local.", mdns.TypeA, 0, "A 10.96.0.5, CNAME web.shop.svc.cluster.local."},
		{"out.shop.svc.cluster.local.", mdns.TypeA, 0, "CNAME www.example.com."}, // the upstream is down
		{"dns-version.cluster.local.", mdns.TypeTXT, 0, `TXT "1.1.0"`},
		{"cluster.local.", mdns.TypeA, 0, ""},
		{"svc.cluster.local.", mdns.TypeA, 0, ""},
		{"elsewhere.cluster.local.", mdns.TypeA, mdns.RcodeNameError, ""},
		{"www.example.com.", mdns.TypeA, mdns.RcodeServerFailure, ""},
	} {
		for _, network := range []string{"udp", "tcp"} {
			reply := ask(t, network, at, c.name, c.qtype)
			if got := short(reply.Answer); reply.Rcode != c.rcode || got != c.answer {
				t.Errorf("%s %s %s: %s %q, want %s %q", network, c.name, mdns.TypeToString[c.qtype],
					mdns.RcodeToString[reply.Rcode], got, mdns.RcodeToString[c.rcode], c.answer)
			}
			if ours := strings.HasSuffix(strings.ToLower(c.name), "cluster.local."); ours && len(reply.Answer) == 0 && len(reply.Ns) != 1 {
				t.Errorf("%s: a negative answer without SOA cannot be cached", c.name)
			}
		}
	}
	if reply := ask(t, "udp", at, "_http._tcp.web.shop.svc.cluster.local.", mdns.TypeSRV); short(reply.Extra) != "A 10.96.0.5, AAAA fd96::5" {
		t.Errorf("SRV comes with %q", short(reply.Extra))
	}
	if reply := ask(t, "udp", at, "loop.shop.svc.cluster.local.", mdns.TypeA); len(reply.Answer) > 20 {
		t.Errorf("an alias of itself has %d records", len(reply.Answer))
	}
}

func TestLongAnswersAreCutShort(t *testing.T) {
	at := serve(t, 1, newServer(1, world()))
	reply := ask(t, "udp", at, "crowd.shop.svc.cluster.local.", mdns.TypeA)
	if !reply.Truncated || len(reply.Answer) >= 200 {
		t.Errorf("UDP: truncated is %v with %d records", reply.Truncated, len(reply.Answer))
	}
	reply = ask(t, "tcp", at, "crowd.shop.svc.cluster.local.", mdns.TypeA)
	if reply.Truncated || len(reply.Answer) != 200 {
		t.Errorf("TCP: truncated is %v with %d records", reply.Truncated, len(reply.Answer))
	}
}

// upstream is a resolver that counts what it is asked.
func upstream(t *testing.T, n int) (at string, asked *atomic.Int32) {
	t.Helper()
	asked = &atomic.Int32{}
	handler := mdns.HandlerFunc(func(w mdns.ResponseWriter, q *mdns.Msg) {
		asked.Add(1)
		reply := new(mdns.Msg).SetReply(q)
		name := q.Question[0].Name
		switch {
		case strings.HasPrefix(name, "www."):
			reply.Answer = []mdns.RR{&mdns.A{Hdr: mdns.RR_Header{Name: name, Rrtype: mdns.TypeA, Class: mdns.ClassINET, Ttl: 20}, A: []byte{192, 0, 2, 1}}}
		case strings.HasPrefix(name, "long.") && w.LocalAddr().Network() == "udp":
			reply.Truncated = true
		case strings.HasPrefix(name, "long."):
			reply.Answer = []mdns.RR{&mdns.TXT{Hdr: mdns.RR_Header{Name: name, Rrtype: mdns.TypeTXT, Class: mdns.ClassINET, Ttl: 20}, Txt: []string{"by TCP"}}}
		case strings.HasPrefix(name, "broken."):
			reply.Rcode = mdns.RcodeServerFailure
		default:
			reply.Rcode = mdns.RcodeNameError
			reply.Ns = []mdns.RR{&mdns.SOA{Hdr: mdns.RR_Header{Name: "com.", Rrtype: mdns.TypeSOA, Class: mdns.ClassINET, Ttl: 60}, Ns: "a.", Mbox: "b.", Minttl: 5}}
		}
		if err := w.WriteMsg(reply); err != nil {
			t.Error(err)
		}
	})
	at = netip.AddrPortFrom(loopback(n), 53).String()
	for _, network := range []string{"udp", "tcp"} {
		started := make(chan struct{})
		s := &mdns.Server{Addr: at, Net: network, Handler: handler, NotifyStartedFunc: func() { close(started) }}
		ended := make(chan error, 1)
		go func() { ended <- s.ListenAndServe() }()
		select {
		case <-started:
		case err := <-ended:
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Shutdown(); err != nil {
				t.Error(err)
			}
			<-ended
		})
	}
	return at, asked
}

func TestForwarding(t *testing.T) {
	up, asked := upstream(t, 2)
	s := newServer(3, world(), "127.0.0.1:1", up) // the first is down
	now := time.Now()
	clock := &atomic.Int64{}
	s.forward.now = func() time.Time { return now.Add(time.Duration(clock.Load())) }
	at := serve(t, 3, s)
	check := func(name string, qtype uint16, rcode int, answer string, asks int32) {
		t.Helper()
		before := asked.Load()
		reply := ask(t, "udp", at, name, qtype)
		if got := short(reply.Answer); reply.Rcode != rcode || got != answer {
			t.Errorf("%s: %s %q, want %q", name, mdns.RcodeToString[reply.Rcode], got, answer)
		}
		if got := asked.Load() - before; got != asks {
			t.Errorf("%s: the upstream was asked %d times, want %d", name, got, asks)
		}
	}
	check("www.example.com.", mdns.TypeA, 0, "A 192.0.2.1", 1)
	check("WWW.example.com.", mdns.TypeA, 0, "A 192.0.2.1", 0)
	check("out.shop.svc.cluster.local.", mdns.TypeA, 0, "A 192.0.2.1, CNAME www.example.com.", 0)
	check("nowhere.shop.svc.cluster.local.", mdns.TypeA, 0, "CNAME gone.example.com.", 1)
	check("gone.example.com.", mdns.TypeA, mdns.RcodeNameError, "", 0)
	clock.Store(int64(15 * time.Second))
	if reply := ask(t, "udp", at, "www.example.com.", mdns.TypeA); len(reply.Answer) != 1 || reply.Answer[0].Header().Ttl != 5 {
		t.Errorf("after 15 seconds of 20: %v", reply.Answer)
	}
	check("gone.example.com.", mdns.TypeA, mdns.RcodeNameError, "", 1) // SOA: 5 seconds
	clock.Store(int64(21 * time.Second))
	check("www.example.com.", mdns.TypeA, 0, "A 192.0.2.1", 1)
	check("long.example.com.", mdns.TypeTXT, 0, `TXT "by TCP"`, 2)
	check("broken.example.com.", mdns.TypeA, mdns.RcodeServerFailure, "", 1)
	check("broken.example.com.", mdns.TypeA, mdns.RcodeServerFailure, "", 1) // failures are not kept
}

func TestCacheIsBounded(t *testing.T) {
	f := newForwarder(nil)
	for n := range cacheSize + 100 {
		name := fmt.Sprintf("n%d.example.", n)
		reply := new(mdns.Msg).SetQuestion(name, mdns.TypeA)
		reply.Answer = []mdns.RR{addressRecord(name, netip.MustParseAddr("192.0.2.1"))}
		f.store(keyOf(reply), reply)
	}
	if len(f.cache) > cacheSize {
		t.Errorf("%d answers are kept, more than %d", len(f.cache), cacheSize)
	}
}

func TestRunFailsOnATakenAddress(t *testing.T) {
	serve(t, 4, newServer(4, world()))
	if err := newServer(4, world()).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "listen for DNS") {
		t.Errorf("got %v", err)
	}
}

func TestUpstreams(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(path, []byte("nameserver 10.96.0.10\nnameserver 192.0.2.53\nnameserver fd00::53\nsearch x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Upstreams(path, func(ip string) bool { return ip == "10.96.0.10" })
	if err != nil || !slices.Equal(got, []string{"192.0.2.53:53", "[fd00::53]:53"}) {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := Upstreams(path+"x", nil); err == nil {
		t.Error("a missing file is no error")
	}
}

// FuzzAnswer answers anything that unpacks, with something that packs and is
// an answer to it.
func FuzzAnswer(f *testing.F) {
	for _, name := range []string{"web.shop.svc.cluster.local.", "_http._tcp.web.shop.svc.cluster.local.", "1.0.244.10.in-addr.arpa.",
		"1-2-3-4.a.pod.cluster.local.", "a..svc.cluster.local.", "svc.cluster.local.", "loop.shop.svc.cluster.local."} {
		for _, qtype := range []uint16{mdns.TypeA, mdns.TypeSRV, mdns.TypePTR, mdns.TypeANY} {
			if b, err := new(mdns.Msg).SetQuestion(name, qtype).Pack(); err == nil {
				f.Add(b)
			}
		}
	}
	s := newServer(0, world())
	f.Fuzz(func(t *testing.T, data []byte) {
		q := new(mdns.Msg)
		if q.Unpack(data) != nil {
			return
		}
		reply := s.answer(t.Context(), q)
		if !reply.Response || reply.Id != q.Id {
			t.Errorf("not an answer: %v", reply)
		}
		reply.Truncate(maxUDP)
		if _, err := reply.Pack(); err != nil {
			t.Errorf("the answer to %v does not pack: %v", q.Question, err)
		}
	})
}
