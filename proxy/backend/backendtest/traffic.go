//go:build linux

package backendtest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/skeg-dev/skeg/internal/netns"
	"github.com/skeg-dev/skeg/internal/testkit"
	"github.com/skeg-dev/skeg/proxy/backend"
	"github.com/skeg-dev/skeg/proxy/ruleset"
)

// silence is how long nothing must be heard for a packet to count as dropped.
// An endpoint that is slower than that cannot make a test fail, which waits
// for it for testkit.Patience unless it expects a drop.
const silence = 300 * time.Millisecond

// serve starts the servers of a Pod. They end when their sockets are closed.
func (l *Lab) serve(t testing.TB, addrs ...netip.Addr) {
	t.Helper()
	for _, a := range addrs {
		at := netip.AddrPortFrom(a, endpointPort)
		var stream net.Listener
		var packets *net.UDPConn
		l.in(t, l.sources[a], func() (err error) {
			if stream, err = net.Listen("tcp", at.String()); err != nil {
				return err
			}
			packets, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
			return err
		})
		t.Cleanup(func() { _ = stream.Close(); _ = packets.Close() }) // ends the servers
		go acceptAll(stream)
		go answerAll(packets)
	}
}

// acceptAll tells each client who it met and as whom it came, and then echoes.
func acceptAll(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = c.Close() }()
			if _, err := fmt.Fprintf(c, "%s %s\n", c.LocalAddr(), c.RemoteAddr()); err == nil {
				_, _ = io.Copy(c, c)
			}
		}()
	}
}

func answerAll(c *net.UDPConn) {
	buf := make([]byte, 64)
	for {
		_, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		_, _ = c.WriteToUDPAddrPort([]byte(fmt.Sprintf("%s %s\n", c.LocalAddr(), from)), from)
	}
}

// Connect opens a connection in the Lab; the caller closes it.
func (l *Lab) Connect(p Packet, patience time.Duration) (net.Conn, error) {
	dialer := net.Dialer{Timeout: patience}
	switch {
	case p.FromNode():
	case p.Protocol == ruleset.UDP:
		dialer.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(p.From, 0))
	default:
		dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(p.From, 0))
	}
	var c net.Conn
	err := netns.Do(l.sources[p.From], func() (err error) {
		c, err = dialer.Dial(p.Protocol.String(), p.To.String())
		return err
	})
	return c, err
}

// Send sends one packet and tells what was heard within patience.
func (l *Lab) Send(t testing.TB, p Packet, patience time.Duration) Outcome {
	t.Helper()
	line, err := l.ask(p, patience)
	var timeout net.Error
	switch {
	case err == nil:
	case errors.As(err, &timeout) && timeout.Timeout():
		return Outcome{Verdict: Dropped}
	case errors.Is(err, syscall.EPERM): // how a process hears of its packet's end
		return Outcome{Verdict: Rejected}
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return Outcome{Verdict: Rejected}
	default:
		t.Fatalf("%s %s → %s: %v", p.Protocol, p.From, p.To, err)
	}
	own, seen, _ := strings.Cut(strings.TrimSpace(line), " ")
	endpoint, err1 := netip.ParseAddrPort(own)
	source, err2 := netip.ParseAddrPort(seen)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatalf("an endpoint said %q: %v", line, err)
	}
	from := source.Addr().Unmap()
	return Outcome{Verdict: Reached, Endpoint: netip.AddrPortFrom(endpoint.Addr().Unmap(), endpoint.Port()), Masqueraded: from != p.From}
}

func (l *Lab) ask(p Packet, patience time.Duration) (string, error) {
	c, err := l.Connect(p, patience)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if p.Protocol == ruleset.UDP {
		if _, err := c.Write([]byte("?")); err != nil {
			return "", err
		}
	}
	return bufio.NewReader(c).ReadString('\n')
}

// Kernel is a Network in the Lab, with the rules that a backend makes there.
func (l *Lab) Kernel(b backend.Backend) Network { return &kernel{lab: l, backend: b} }

type kernel struct {
	lab     *Lab
	backend backend.Backend
}

func (k *kernel) Load(t testing.TB, rules *ruleset.Ruleset) {
	t.Helper()
	if err := k.backend.Cleanup(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := k.backend.Sync(t.Context(), rules); err != nil {
		t.Fatal(err)
	}
	k.lab.in(t, k.lab.Node, func() error {
		for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
			if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, everything{}); err != nil {
				return err
			}
		}
		return nil
	})
}

type everything struct{}

func (everything) MatchConntrackFlow(*netlink.ConntrackFlow) bool { return true }

func (k *kernel) Send(t testing.TB, p Packet, expected Verdict) Outcome {
	t.Helper()
	patience := testkit.Patience
	if expected == Dropped {
		patience = silence
	}
	return k.lab.Send(t, p, patience)
}

func (k *kernel) Carries(p ruleset.Protocol) bool { return p != ruleset.SCTP }

func (k *kernel) Fair() bool { return false }
