package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/websocket"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// The subprotocols of exec and attach over WebSocket. v5 is what kubectl
// speaks: v4 and a signal that closes one stream (KEP-4006).
const (
	base64V4 = "v4.base64.channel.k8s.io"
	base64V1 = "base64.channel.k8s.io"
)

// serveWebSocket runs the session over WebSocket channels.
func (s *session) serveWebSocket(ctx context.Context, w http.ResponseWriter, r *http.Request, options *remotecommand.Options) {
	channels := channelTypes(options)
	binary := wsstream.ChannelProtocolConfig{Binary: true, Channels: channels}
	text := wsstream.ChannelProtocolConfig{Binary: false, Channels: channels}
	conn := wsstream.NewConn(map[string]wsstream.ChannelProtocolConfig{
		"":                                 binary,
		remotecommand.StreamProtocolV5Name: binary,
		remotecommand.StreamProtocolV4Name: binary,
		remotecommand.StreamProtocolV1Name: binary,
		base64V4:                           text,
		base64V1:                           text,
	})
	conn.SetIdleTimeout(s.server.config.StreamIdle)
	protocol, streams, err := conn.Open(w, r)
	if err != nil {
		s.server.config.Log.Debug("could not upgrade to websocket", "err", err)
		return
	}
	defer func() { _ = conn.Close() }() // the client may have closed it
	// An empty message tells the client that the session is open.
	announce := remotecommand.StreamErr
	if options.Stdout {
		announce = remotecommand.StreamStdOut
	}
	if _, err := streams[announce].Write(nil); err != nil {
		return
	}
	client := container.Streams{}
	if options.Stdin {
		client.Stdin = streams[remotecommand.StreamStdIn]
	}
	if options.Stdout {
		client.Stdout = streams[remotecommand.StreamStdOut]
	}
	if options.Stderr {
		client.Stderr = streams[remotecommand.StreamStdErr]
	}
	if options.TTY {
		client.Resize = readSizes(ctx, streams[remotecommand.StreamResize])
	}
	code, err := s.run(ctx, client, options.TTY)
	status := exitStatus(code, err)
	if err := writeStatus(streams[remotecommand.StreamErr], protocol, status); err != nil {
		s.server.config.Log.Debug("could not tell client the exit status", "err", err)
	}
}

// channelTypes are the channels of a session, by their number on the wire.
func channelTypes(options *remotecommand.Options) []wsstream.ChannelType {
	pick := func(wanted bool, kind wsstream.ChannelType) wsstream.ChannelType {
		if wanted {
			return kind
		}
		return wsstream.IgnoreChannel
	}
	return []wsstream.ChannelType{
		remotecommand.StreamStdIn:  pick(options.Stdin, wsstream.ReadChannel),
		remotecommand.StreamStdOut: pick(options.Stdout, wsstream.WriteChannel),
		remotecommand.StreamStdErr: pick(options.Stderr, wsstream.WriteChannel),
		remotecommand.StreamErr:    wsstream.WriteChannel,
		remotecommand.StreamResize: wsstream.ReadChannel,
	}
}

// readSizes decodes the terminal sizes a client sends.
func readSizes(ctx context.Context, from io.Reader) <-chan container.WindowSize {
	out := make(chan container.WindowSize)
	go func() {
		defer close(out)
		decoder := json.NewDecoder(from)
		for {
			var size remotecommand.TerminalSize
			if err := decoder.Decode(&size); err != nil {
				return // the client is gone, or does not speak the protocol
			}
			select {
			case out <- container.WindowSize{Width: size.Width, Height: size.Height}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// exitStatus is how the end of a session is told since protocol v4.
func exitStatus(code int, err error) *metav1.Status {
	switch {
	case err != nil:
		return &metav1.Status{
			Status: metav1.StatusFailure, Reason: metav1.StatusReasonInternalError, Code: http.StatusInternalServerError,
			Message: fmt.Sprintf("Internal error occurred: error executing command in container: %v", err),
		}
	case code != 0:
		return &metav1.Status{
			Status: metav1.StatusFailure, Reason: remotecommand.NonZeroExitCodeReason,
			Message: fmt.Sprintf("command terminated with non-zero exit code: exit status %d", code),
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{
				{Type: remotecommand.ExitCodeCauseType, Message: fmt.Sprint(code)},
			}},
		}
	default:
		return &metav1.Status{Status: metav1.StatusSuccess}
	}
}

// writeStatus tells the client how the session ended: JSON since v4, only the
// text of a failure before.
func writeStatus(to io.Writer, protocol string, status *metav1.Status) error {
	data := []byte(status.Message)
	if slices.Contains([]string{remotecommand.StreamProtocolV5Name, remotecommand.StreamProtocolV4Name, base64V4}, protocol) {
		var err error
		if data, err = json.Marshal(status); err != nil {
			return fmt.Errorf("encode exit status: %w", err)
		}
	} else if len(data) == 0 {
		return nil
	}
	_, err := to.Write(data)
	return err
}

func (s *Server) servePortForward(w http.ResponseWriter, r *http.Request) {
	pod := s.pod(w, r)
	if pod == nil {
		return
	}
	if s.config.Dial == nil {
		http.Error(w, "port-forward is not available", http.StatusNotImplemented)
		return
	}
	options, err := portforward.NewV4Options(tunnelFree(r))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.config.Log.Info("port-forward opened", "path", r.URL.Path)
	serve := func(w http.ResponseWriter, r *http.Request) {
		portforward.ServePortForward(w, r, &forwarder{s.config.Dial}, pod.Name, string(pod.UID), options,
			s.config.StreamIdle, streamCreation, portforward.SupportedProtocols)
	}
	if wantsTunnel(r) {
		serveTunnel(w, r, serve)
		return
	}
	serve(w, r)
}

// wantsTunnel: kubectl speaks SPDY through a WebSocket (KEP-4006).
func wantsTunnel(r *http.Request) bool {
	return wsstream.IsWebSocketRequest(r) && slices.Contains(subprotocols(r), portforward.WebsocketsSPDYTunnelingPortForwardV1)
}

func subprotocols(r *http.Request) []string {
	var out []string
	for _, header := range r.Header.Values("Sec-WebSocket-Protocol") {
		for name := range strings.SplitSeq(header, ",") {
			out = append(out, strings.TrimSpace(name))
		}
	}
	return out
}

// tunnelFree is the request as what is inside the tunnel sees it: an upgrade
// to SPDY.
func tunnelFree(r *http.Request) *http.Request {
	if !wantsTunnel(r) {
		return r
	}
	inner := r.Clone(r.Context())
	inner.Header.Set("Connection", "Upgrade")
	inner.Header.Set("Upgrade", strings.TrimSuffix(portforward.WebsocketsSPDYTunnelingPrefix, "+"))
	inner.Header.Del("Sec-WebSocket-Protocol")
	inner.Header.Set("X-Stream-Protocol-Version", portforward.PortForwardV1Name)
	return inner
}

// serveTunnel accepts the WebSocket and has serve upgrade what runs in it.
func serveTunnel(w http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter, *http.Request)) {
	websocket.Server{
		Handshake: func(config *websocket.Config, _ *http.Request) error {
			config.Protocol = []string{portforward.WebsocketsSPDYTunnelingPortForwardV1}
			return nil
		},
		Handler: func(conn *websocket.Conn) {
			conn.PayloadType = websocket.BinaryFrame
			serve(&tunnelWriter{conn: conn, header: http.Header{}}, tunnelFree(r))
		},
	}.ServeHTTP(w, r)
}

// tunnelWriter is the response inside a tunnel: its head is implied, and what
// is hijacked is the tunnel.
type tunnelWriter struct {
	conn   *websocket.Conn
	header http.Header
	status int
}

// Header is not sent.
func (t *tunnelWriter) Header() http.Header { return t.header }

// WriteHeader is not sent.
func (t *tunnelWriter) WriteHeader(status int) { t.status = status }

// Write is for errors before the upgrade, which the tunnel has no place for.
func (t *tunnelWriter) Write([]byte) (int, error) {
	return 0, errors.New("tunnel carries no HTTP response")
}

// Hijack returns the tunnel.
func (t *tunnelWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return t.conn, bufio.NewReadWriter(bufio.NewReader(t.conn), bufio.NewWriter(t.conn)), nil
}
