package protocol

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/skeg-dev/skeg/kubelet/container"
)

func TestErrorsKeepTheirClass(t *testing.T) {
	t.Parallel()
	for _, sentinel := range []error{container.ErrNotFound, container.ErrNotRunning, container.ErrStart} {
		err := fmt.Errorf("%w: why", sentinel)
		back := Fail(err).Err()
		if !errors.Is(back, sentinel) || back.Error() != err.Error() {
			t.Errorf("%v came back as %v", err, back)
		}
	}
	if err := Fail(errors.New("other")).Err(); err == nil || err.Error() != "other" {
		t.Errorf("another error came back as %v", err)
	}
	if err := Fail(nil).Err(); err != nil {
		t.Errorf("success came back as %v", err)
	}
	if got := StartText(fmt.Errorf("%w: no such file", container.ErrStart)); got != "no such file" {
		t.Errorf("text %q", got)
	}
}

func TestFrames(t *testing.T) {
	t.Parallel()
	var buf bytes.Buffer
	if err := errors.Join(Write(&buf, FrameStdout, []byte("out")), WriteJSON(&buf, FrameRequest, Request{Op: OpStop})); err != nil {
		t.Fatal(err)
	}
	if kind, payload, err := Read(&buf); kind != FrameStdout || string(payload) != "out" || err != nil {
		t.Errorf("read %d %q, %v", kind, payload, err)
	}
	var req Request
	if err := ReadJSON(&buf, FrameRequest, &req); err != nil || req.Op != OpStop {
		t.Errorf("read %+v, %v", req, err)
	}
	if _, _, err := Read(&buf); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
	for name, raw := range map[string][]byte{"torn": {1, 0, 0, 0, 9, 'x'}, "too large": {1, 0xff, 0, 0, 0}} {
		if _, _, err := Read(bytes.NewReader(raw)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Write(io.Discard, FrameStdout, make([]byte, MaxFrame+1)); err == nil {
		t.Error("wrote a frame that is too large")
	}
	size := container.WindowSize{Width: 80, Height: 24}
	if got, err := DecodeSize(EncodeSize(size)); err != nil || got != size {
		t.Errorf("size %v, %v", got, err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 2, '{', '}'})
	f.Fuzz(func(t *testing.T, raw []byte) {
		var req Request
		_ = ReadJSON(bytes.NewReader(raw), FrameRequest, &req) // must not panic or allocate without bound
	})
}
