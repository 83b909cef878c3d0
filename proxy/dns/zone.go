package dns

import (
	"net/netip"
	"slices"
	"strings"

	mdns "github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// ttl of all cluster records, in seconds: CoreDNS's default for this zone.
const ttl = 5

// zone answers names below the cluster's domain, and reverse names of its
// addresses.
type zone struct {
	source Source
	domain string // canonical: lower case, with the final dot
}

// answer returns nil for names that are not ours.
func (z *zone) answer(q *mdns.Msg, question mdns.Question) *mdns.Msg {
	name := mdns.CanonicalName(question.Name)
	if ip, reverse := reverseAddr(name); reverse {
		return z.reverse(q, question, ip)
	}
	if name != z.domain && !strings.HasSuffix(name, "."+z.domain) {
		return nil
	}
	labels := mdns.SplitDomainName(strings.TrimSuffix(name, z.domain))
	found, records := z.lookup(question, labels)
	reply := new(mdns.Msg).SetReply(q)
	reply.Authoritative, reply.RecursionAvailable = true, true
	if !found {
		reply.Rcode = mdns.RcodeNameError
	}
	for _, r := range records {
		if r.Header().Rrtype == question.Qtype || question.Qtype == mdns.TypeANY || r.Header().Rrtype == mdns.TypeCNAME {
			reply.Answer = append(reply.Answer, r)
		} else if question.Qtype == mdns.TypeSRV {
			reply.Extra = append(reply.Extra, r)
		}
	}
	if len(reply.Answer) == 0 {
		reply.Extra = nil
		reply.Ns = []mdns.RR{z.soa()}
	}
	return reply
}

func (z *zone) soa() mdns.RR {
	return &mdns.SOA{
		Hdr: mdns.RR_Header{Name: z.domain, Rrtype: mdns.TypeSOA, Class: mdns.ClassINET, Ttl: ttl},
		Ns:  "ns.dns." + z.domain, Mbox: "hostmaster." + z.domain,
		Serial: 1, Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: ttl,
	}
}

// lookup returns whether the name exists, and its records. labels are those
// before the cluster's domain.
func (z *zone) lookup(question mdns.Question, labels []string) (found bool, records []mdns.RR) {
	n := len(labels)
	switch {
	case n == 0:
		return true, []mdns.RR{z.soa()}
	case n == 1 && labels[0] == "dns-version":
		return true, []mdns.RR{&mdns.TXT{Hdr: header(question.Name, mdns.TypeTXT), Txt: []string{"1.1.0"}}}
	case labels[n-1] == "svc" && n >= 3:
		return z.service(question, labels[:n-1])
	case labels[n-1] == "pod" && n == 3:
		return pod(question, labels[0])
	case labels[n-1] == "svc" || labels[n-1] == "pod": // an empty non-terminal
		return n <= 2, nil
	}
	return false, nil
}

// pod answers 10-1-2-3.<namespace>.pod from the name alone, as CoreDNS does by
// default ("pods insecure" in kubeadm's configuration).
func pod(question mdns.Question, label string) (bool, []mdns.RR) {
	text := strings.ReplaceAll(label, "-", ".")
	addr, err := netip.ParseAddr(text)
	if err != nil {
		addr, err = netip.ParseAddr(strings.ReplaceAll(label, "-", ":"))
	}
	if err != nil {
		return false, nil
	}
	return true, []mdns.RR{addressRecord(question.Name, addr)}
}

// service answers what is below svc: [prefix...] <service> <namespace>.
func (z *zone) service(question mdns.Question, labels []string) (bool, []mdns.RR) {
	n := len(labels)
	namespace, name, prefix := labels[n-1], labels[n-2], labels[:n-2]
	svc := z.source.Service(namespace + "/" + name)
	if svc == nil {
		return false, nil
	}
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		if len(prefix) > 0 {
			return false, nil
		}
		return true, []mdns.RR{&mdns.CNAME{Hdr: header(question.Name, mdns.TypeCNAME), Target: mdns.Fqdn(svc.Spec.ExternalName)}}
	}
	v := &view{zone: z, svc: svc, base: name + "." + namespace + ".svc." + z.domain}
	switch {
	case len(prefix) == 0:
		return true, v.addresses(question)
	case len(prefix) == 2 && strings.HasPrefix(prefix[0], "_") && strings.HasPrefix(prefix[1], "_"):
		return v.srv(question, prefix[0][1:], prefix[1][1:])
	case len(prefix) == 1 && strings.HasPrefix(prefix[0], "_"):
		return true, nil // _tcp: an empty non-terminal
	case len(prefix) == 1 && headless(svc):
		return v.host(question, prefix[0])
	}
	return false, nil
}

func headless(svc *corev1.Service) bool { return svc.Spec.ClusterIP == corev1.ClusterIPNone }

// view is one Service while a query for it is answered.
type view struct {
	zone *zone
	svc  *corev1.Service
	base string
}

// member is an endpoint of a headless Service.
type member struct {
	host  string // its label
	addr  netip.Addr
	ports []discoveryv1.EndpointPort
}

func (v *view) members() []member {
	var all []member
	seen := map[netip.Addr]bool{}
	for _, slice := range v.zone.source.Slices(v.svc.Namespace + "/" + v.svc.Name) {
		for i := range slice.Endpoints {
			e := &slice.Endpoints[i]
			ready := e.Conditions.Ready == nil || *e.Conditions.Ready
			if len(e.Addresses) == 0 || !ready && !v.svc.Spec.PublishNotReadyAddresses {
				continue
			}
			addr, err := netip.ParseAddr(e.Addresses[0])
			if err != nil || seen[addr] {
				continue
			}
			seen[addr] = true
			all = append(all, member{host: hostLabel(e, addr), addr: addr, ports: slice.Ports})
		}
	}
	slices.SortFunc(all, func(a, b member) int { return a.addr.Compare(b.addr) })
	return all
}

// hostLabel is the endpoint's hostname, or its address with dashes.
func hostLabel(e *discoveryv1.Endpoint, addr netip.Addr) string {
	if e.Hostname != nil && *e.Hostname != "" {
		return strings.ToLower(*e.Hostname)
	}
	return strings.NewReplacer(".", "-", ":", "-").Replace(addr.String())
}

func (v *view) addresses(question mdns.Question) []mdns.RR {
	var records []mdns.RR
	if headless(v.svc) {
		for _, m := range v.members() {
			records = append(records, addressRecord(question.Name, m.addr))
		}
		if question.Qtype == mdns.TypeSRV {
			return v.srvRecords(question, "", "")
		}
		return records
	}
	if question.Qtype == mdns.TypeSRV {
		return v.srvRecords(question, "", "")
	}
	for _, text := range clusterIPs(v.svc) {
		if addr, err := netip.ParseAddr(text); err == nil {
			records = append(records, addressRecord(question.Name, addr))
		}
	}
	return records
}

func clusterIPs(svc *corev1.Service) []string {
	if len(svc.Spec.ClusterIPs) > 0 {
		return svc.Spec.ClusterIPs
	}
	return []string{svc.Spec.ClusterIP}
}

// host answers <hostname>.<service>: there may be several of one name.
func (v *view) host(question mdns.Question, label string) (bool, []mdns.RR) {
	var records []mdns.RR
	for _, m := range v.members() {
		if m.host == label {
			records = append(records, addressRecord(question.Name, m.addr))
		}
	}
	return len(records) > 0, records
}

func (v *view) srv(question mdns.Question, port, protocol string) (bool, []mdns.RR) {
	records := v.srvRecords(question, port, protocol)
	return len(records) > 0, records
}

// srvRecords lists the ports that match (all when port is ""), with the
// addresses of their targets.
func (v *view) srvRecords(question mdns.Question, port, protocol string) []mdns.RR {
	match := func(name string, proto corev1.Protocol) bool {
		return port == "" && protocol == "" || name == port && strings.EqualFold(string(proto), protocol)
	}
	var records []mdns.RR
	record := func(target string, number int32) {
		records = append(records, &mdns.SRV{Hdr: header(question.Name, mdns.TypeSRV), Weight: 100, Port: uint16(number), Target: target})
	}
	if !headless(v.svc) {
		for _, p := range v.svc.Spec.Ports {
			if match(p.Name, p.Protocol) {
				record(v.base, p.Port)
			}
		}
		if len(records) > 0 {
			for _, text := range clusterIPs(v.svc) {
				if addr, err := netip.ParseAddr(text); err == nil {
					records = append(records, addressRecord(v.base, addr))
				}
			}
		}
		return records
	}
	var targets []mdns.RR
	for _, m := range v.members() {
		target := m.host + "." + v.base
		matched := false
		for _, p := range m.ports {
			if p.Port != nil && p.Name != nil && p.Protocol != nil && match(*p.Name, *p.Protocol) {
				record(target, *p.Port)
				matched = true
			}
		}
		if matched {
			targets = append(targets, addressRecord(target, m.addr))
		}
	}
	return append(records, targets...)
}

// reverse answers PTR queries for Service and headless endpoint addresses; nil
// for addresses that are not the cluster's.
func (z *zone) reverse(q *mdns.Msg, question mdns.Question, ip netip.Addr) *mdns.Msg {
	var names []string
	for _, svc := range z.source.ServicesAt(ip.String()) {
		names = append(names, svc.Name+"."+svc.Namespace+".svc."+z.domain)
	}
	for _, slice := range z.source.SlicesAt(ip.String()) {
		name := slice.Labels[discoveryv1.LabelServiceName]
		svc := z.source.Service(slice.Namespace + "/" + name)
		if svc == nil || !headless(svc) {
			continue
		}
		for i := range slice.Endpoints {
			if e := &slice.Endpoints[i]; slices.Contains(e.Addresses, ip.String()) {
				names = append(names, hostLabel(e, ip)+"."+name+"."+slice.Namespace+".svc."+z.domain)
			}
		}
	}
	if len(names) == 0 {
		return nil
	}
	reply := new(mdns.Msg).SetReply(q)
	reply.Authoritative, reply.RecursionAvailable = true, true
	if question.Qtype == mdns.TypePTR || question.Qtype == mdns.TypeANY {
		for _, name := range names {
			reply.Answer = append(reply.Answer, &mdns.PTR{Hdr: header(question.Name, mdns.TypePTR), Ptr: name})
		}
	}
	return reply
}

func header(name string, rrtype uint16) mdns.RR_Header {
	return mdns.RR_Header{Name: name, Rrtype: rrtype, Class: mdns.ClassINET, Ttl: ttl}
}

func addressRecord(name string, addr netip.Addr) mdns.RR {
	addr = addr.Unmap()
	if addr.Is4() {
		return &mdns.A{Hdr: header(name, mdns.TypeA), A: addr.AsSlice()}
	}
	return &mdns.AAAA{Hdr: header(name, mdns.TypeAAAA), AAAA: addr.AsSlice()}
}

// reverseAddr reads 4.3.2.1.in-addr.arpa. and the ip6.arpa. form.
func reverseAddr(name string) (netip.Addr, bool) {
	if rest, ok := strings.CutSuffix(name, ".in-addr.arpa."); ok {
		labels := strings.Split(rest, ".")
		slices.Reverse(labels)
		addr, err := netip.ParseAddr(strings.Join(labels, "."))
		return addr, err == nil && addr.Is4()
	}
	rest, ok := strings.CutSuffix(name, ".ip6.arpa.")
	digits := strings.Split(rest, ".")
	if !ok || len(digits) != 32 {
		return netip.Addr{}, false
	}
	slices.Reverse(digits)
	var text strings.Builder
	for i, d := range digits {
		if i > 0 && i%4 == 0 {
			text.WriteByte(':')
		}
		text.WriteString(d)
	}
	addr, err := netip.ParseAddr(text.String())
	return addr, err == nil
}
