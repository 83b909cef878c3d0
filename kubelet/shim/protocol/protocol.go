// Package protocol is what the shim and the kubelet's shimclient say to each
// other over the shim's unix socket. Each connection carries one request:
//
//	client: frame{Request, JSON}
//	shim:   frame{Response, JSON}            one; for OpExec and OpAttach only when the process is connected
//	then    OpSubscribe: shim sends frame{Event, JSON of container.Status} until the client hangs up
//	        OpExec:      Stdin, StdinEnd, Resize from the client; Stdout, Stderr, and last Exit from the shim
//	        OpAttach:    the same; Exit says that the process has ended
//
// A client that hangs up ends an OpExec's process; nothing else is undone by
// it. Frames are a byte of kind, four of length (big endian), and the payload.
// Starts no goroutines.
package protocol

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/skeg-dev/skeg/kubelet/container"
)

// Kind of a frame.
type Kind byte

// The kinds.
const (
	FrameRequest Kind = iota + 1
	FrameResponse
	FrameEvent
	FrameStdin
	FrameStdinEnd
	FrameStdout
	FrameStderr
	FrameResize
	FrameExit
)

// MaxFrame bounds a frame's payload. A spec is the largest: the API limits an
// object to 1.5 MiB, environment from ConfigMaps and annotations included.
const MaxFrame = 8 << 20

// Op is what a request asks for.
type Op string

// The operations; they are those of container.Containers, for one Pod.
const (
	OpCreate    Op = "create"
	OpStart     Op = "start"
	OpStop      Op = "stop"
	OpRemove    Op = "remove"
	OpReopenLog Op = "reopen-log"
	OpExec      Op = "exec"
	OpAttach    Op = "attach"
	OpSubscribe Op = "subscribe"
	// OpShutdown kills all containers, records their ends, and ends the shim.
	OpShutdown Op = "shutdown"
)

// Request asks for one thing.
type Request struct {
	Op    Op
	ID    container.ID    `json:",omitzero"`
	Spec  *container.Spec `json:",omitempty"` // OpCreate
	Grace time.Duration   `json:",omitempty"` // OpStop
	Exec  *Exec           `json:",omitempty"` // OpExec, OpAttach
}

// Exec says what to run and which streams the client wants connected.
type Exec struct {
	Args                  []string `json:",omitempty"`
	TTY                   bool     `json:",omitempty"`
	Stdin, Stdout, Stderr bool     `json:",omitempty"`
}

// Response answers a request.
type Response struct {
	Class    Class  `json:",omitempty"` // "" is success
	Error    string `json:",omitempty"`
	ExitCode int    `json:",omitempty"` // of FrameExit
	// Statuses of all containers, for OpSubscribe: what events start from.
	Statuses []container.Status `json:",omitempty"`
}

// Class of an error, so that the client can rebuild it.
type Class string

// The classes: container's sentinels, and all others.
const (
	ClassNotFound   Class = "not-found"
	ClassNotRunning Class = "not-running"
	ClassStart      Class = "start"
	ClassOther      Class = "other"
)

var classes = map[Class]error{
	ClassNotFound:   container.ErrNotFound,
	ClassNotRunning: container.ErrNotRunning,
	ClassStart:      container.ErrStart,
}

// Fail makes a Response of an error; nil is success.
func Fail(err error) Response {
	if err == nil {
		return Response{}
	}
	for class, sentinel := range classes {
		if errors.Is(err, sentinel) {
			return Response{Class: class, Error: err.Error()}
		}
	}
	return Response{Class: ClassOther, Error: err.Error()}
}

// Err makes an error of a Response, with the sentinel it had.
func (r Response) Err() error {
	if r.Class == "" {
		return nil
	}
	if sentinel := classes[r.Class]; sentinel != nil {
		// The text holds the sentinel's already; say it once.
		return remoteError{text: r.Error, is: sentinel}
	}
	return errors.New(r.Error)
}

type remoteError struct {
	text string
	is   error
}

func (e remoteError) Error() string { return e.text }
func (e remoteError) Unwrap() error { return e.is }

// StartText is the user's part of a start error's text: without the sentinel.
func StartText(err error) string {
	return strings.TrimPrefix(err.Error(), container.ErrStart.Error()+": ")
}

// Write sends a frame in one Write.
func Write(w io.Writer, kind Kind, payload []byte) error {
	if len(payload) > MaxFrame {
		return fmt.Errorf("write frame: %d bytes, at most %d", len(payload), MaxFrame)
	}
	b := make([]byte, 5+len(payload))
	b[0] = byte(kind)
	binary.BigEndian.PutUint32(b[1:], uint32(len(payload)))
	copy(b[5:], payload)
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("write frame: %w", err)
	}
	return nil
}

// WriteJSON sends a value as a frame.
func WriteJSON(w io.Writer, kind Kind, value any) error {
	b, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode frame: %w", err)
	}
	return Write(w, kind, b)
}

// Read receives a frame; io.EOF when the peer has hung up between frames.
func Read(r io.Reader) (Kind, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return 0, nil, io.EOF
		}
		return 0, nil, fmt.Errorf("read frame: %w", err)
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > MaxFrame {
		return 0, nil, fmt.Errorf("read frame: %d bytes, at most %d", n, MaxFrame)
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(r, payload); err != nil {
		return 0, nil, fmt.Errorf("read frame: %w", err)
	}
	return Kind(head[0]), payload, nil
}

// ReadJSON receives a frame that must be of this kind.
func ReadJSON(r io.Reader, kind Kind, into any) error {
	got, payload, err := Read(r)
	if err != nil {
		return err
	}
	if got != kind {
		return fmt.Errorf("read frame: kind %d where %d was due", got, kind)
	}
	if err := json.Unmarshal(payload, into); err != nil {
		return fmt.Errorf("decode frame: %w", err)
	}
	return nil
}

// EncodeSize and DecodeSize are FrameResize's payload: width, height.
func EncodeSize(s container.WindowSize) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, s.Width), s.Height)
}

// DecodeSize reverses EncodeSize.
func DecodeSize(payload []byte) (container.WindowSize, error) {
	if len(payload) != 4 {
		return container.WindowSize{}, fmt.Errorf("decode window size: %d bytes, not 4", len(payload))
	}
	return container.WindowSize{
		Width:  binary.BigEndian.Uint16(payload),
		Height: binary.BigEndian.Uint16(payload[2:]),
	}, nil
}
